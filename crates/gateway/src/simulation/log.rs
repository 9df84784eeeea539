//! The simulated database: one log that all nodes share, each by its own line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use starling_conversation_store::{
    Added, Append, AppendError, Appended, Conversation, ConversationHead, ConversationId, ConversationList,
    ConversationStore, Created, Error, LastSeen, ListCursor, Member, MembersChange, Message, NewConversation,
    Page, PoolStatus, Range, ReadMark,
};
use starling_model::{ConversationName, TenantName, UserName};
use tokio::sync::Semaphore;

use super::line::{Line, NoAnswer};
use super::sabotage::Sabotage;
use super::time;

/// What every node reads and writes.
#[derive(Default)]
pub struct Log {
    state: Mutex<State>,
    /// How many pages of messages were read.
    pages: AtomicU64,
    sabotage: Option<Sabotage>,
}

#[derive(Default)]
struct State {
    /// A conversation's id is its place here, from 1.
    conversations: Vec<Entry>,
    last_seen: BTreeMap<(TenantName, UserName), i64>,
    /// Ended sessions, with when.
    ended: BTreeMap<String, i64>,
    appends: u64,
}

struct Entry {
    is_deleted: bool,
    tenant: TenantName,
    conversation: Conversation,
    messages: Vec<Message>,
    /// Users who were members once and were removed.
    removed: BTreeSet<UserName>,
    /// The highest read mark that each user ever had.
    marks: BTreeMap<UserName, u64>,
    keys: BTreeMap<(UserName, String), Appended>,
}

impl Log {
    pub fn new(sabotage: Option<Sabotage>) -> Arc<Log> {
        Arc::new(Log { sabotage, ..Log::default() })
    }

    /// Everything that was committed, by conversation's name and log, those that were deleted included.
    pub fn all(&self) -> BTreeMap<(String, String), Vec<Message>> {
        let state = self.state.lock();
        let place = |of: &Conversation| (of.conversation.to_string(), of.log.clone());
        state.conversations.iter().map(|entry| (place(&entry.conversation), entry.messages.clone())).collect()
    }

    /// The log and the newest number of the conversation that has this name now.
    pub fn head_of(&self, name: &str) -> Option<(String, u64)> {
        let state = self.state.lock();
        let Conversation { log, head, .. } = &state.named(&super::TENANT.into(), &name.into())?.conversation;
        Some((log.clone(), *head))
    }

    /// How many pages of messages were read so far.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// The number of the conversation that has this name now.
    pub fn number_of(&self, name: &str) -> Option<ConversationId> {
        Some(self.state.lock().named(&super::TENANT.into(), &name.into())?.conversation.id)
    }

    /// Whether somebody has ever been removed from this log, or all have with the log itself.
    pub fn has_removed(&self, name: &str, log: &str, user: &str) -> bool {
        let state = self.state.lock();
        let mut these = state.conversations.iter().filter(|entry| entry.conversation.conversation == name);
        let this = these.find(|entry| entry.conversation.log == log);
        this.is_none_or(|entry| entry.is_deleted || entry.removed.contains(user))
    }

    /// When a conversation was made, be it deleted or not, Unix milliseconds.
    pub fn made_at_ms(&self, name: &str, log: &str) -> Option<i64> {
        let state = self.state.lock();
        let mut conversations = state.conversations.iter().map(|entry| &entry.conversation);
        conversations.find(|of| of.conversation == name && of.log == log).map(|of| of.created_at_ms)
    }

    /// The highest read mark that a user ever had in a conversation, be it deleted or not: one who is removed and comes back begins anew,
    /// and what was told before may be heard after that.
    pub fn mark_of(&self, name: &str, log: &str, user: &str) -> u64 {
        let state = self.state.lock();
        let is_it = |of: &Conversation| of.conversation == name && of.log == log;
        let mut these = state.conversations.iter().filter(|entry| is_it(&entry.conversation));
        these.next_back().and_then(|entry| entry.marks.get(user)).copied().unwrap_or(0)
    }

    fn delete(&self, id: ConversationId) -> bool {
        let mut state = self.state.lock();
        state.entry(id).is_some_and(|entry| !std::mem::replace(&mut entry.is_deleted, true))
    }

    pub fn create(&self, new: &NewConversation) -> Created {
        let mut state = self.state.lock();
        if let Some(entry) = state.named(&new.tenant, &new.conversation) {
            let member = entry.conversation.members.iter().any(|member| member.user == new.owner);
            return Created { id: entry.conversation.id, created: false, member };
        }
        let id = state.conversations.len() as i64 + 1;
        let mut users = new.members.clone();
        users.push(new.owner.clone());
        users.sort();
        users.dedup();
        let conversation = Conversation {
            id,
            conversation: new.conversation.clone(),
            owner: new.owner.clone(),
            title: new.title.clone(),
            metadata: new.metadata.clone(),
            created_at_ms: time::now_ms(),
            head: 0,
            members: users.into_iter().map(|user| Member { user, read: 0 }).collect(),
            members_version: 0,
            details_version: 0,
            log: match self.sabotage {
                Some(Sabotage::KeepLog) => "0-1".to_owned(),
                _ => format!("0-{id}"),
            },
        };
        let tenant = new.tenant.clone();
        state.conversations.push(Entry {
            is_deleted: false,
            tenant,
            conversation,
            messages: Vec::new(),
            removed: BTreeSet::new(),
            marks: BTreeMap::new(),
            keys: BTreeMap::new(),
        });
        Created { id, created: true, member: true }
    }

    fn append(&self, batch: &[Append]) -> Vec<Result<Appended, AppendError>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        batch
            .iter()
            .map(|message| {
                state.appends += 1;
                let (sabotage, nth) = (self.sabotage, state.appends);
                let entry = state.entry(message.conversation).ok_or(AppendError::NoSuchConversation)?;
                Ok(entry.append(message, sabotage.filter(|_| nth.is_multiple_of(9))))
            })
            .collect()
    }

    fn messages(&self, id: ConversationId, range: Range, limit: u32, bytes_max: usize) -> Page {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let Some(entry) = state.entry(id) else { return Page::default() };
        let size =
            |message: &Message| message.content.len() + message.metadata.as_ref().map_or(0, String::len);
        let mut bytes = 0;
        let mut fits = |index: usize, message: &Message| {
            bytes += size(message);
            index == 0 || (bytes <= bytes_max && index < limit as usize)
        };
        let forwards = |after: u64| entry.messages.iter().filter(move |message| message.seq > after);
        let backwards = |before: u64| entry.messages.iter().rev().filter(move |message| message.seq < before);
        let (messages, all): (Vec<Message>, usize) = match range {
            Range::After(after) => {
                let taken = forwards(after).enumerate().take_while(|(index, message)| fits(*index, message));
                (taken.map(|(_, message)| message.clone()).collect(), forwards(after).count())
            }
            Range::Before(_) | Range::Newest => {
                let before = if let Range::Before(before) = range { before } else { u64::MAX };
                let taken =
                    backwards(before).enumerate().take_while(|(index, message)| fits(*index, message));
                let mut taken: Vec<Message> = taken.map(|(_, message)| message.clone()).collect();
                taken.reverse();
                (taken, backwards(before).count())
            }
        };
        let more = messages.len() < all;
        Page { messages, more }
    }
}

impl State {
    fn entry(&mut self, id: ConversationId) -> Option<&mut Entry> {
        let entry = self.conversations.get_mut(usize::try_from(id).ok()?.checked_sub(1)?);
        entry.filter(|entry| !entry.is_deleted)
    }

    fn named(&self, tenant: &TenantName, name: &ConversationName) -> Option<&Entry> {
        self.conversations.iter().find(|entry| {
            !entry.is_deleted && entry.tenant == *tenant && entry.conversation.conversation == *name
        })
    }
}

impl Entry {
    fn set_member(&mut self, user: &UserName, wanted: bool) -> MembersChange {
        let Conversation { members, members_version, .. } = &mut self.conversation;
        let changed = match (members.binary_search_by(|member| member.user.cmp(user)), wanted) {
            (Err(at), true) => {
                members.insert(at, Member { user: user.to_owned(), read: 0 });
                true
            }
            (Ok(at), false) => {
                self.removed.insert(members.remove(at).user);
                true
            }
            _ => false,
        };
        *members_version += u64::from(changed);
        MembersChange { changed, version: *members_version, owner: self.conversation.owner.clone() }
    }

    fn append(&mut self, message: &Append, sabotage: Option<Sabotage>) -> Appended {
        let key = (message.sender.clone(), message.key.clone());
        if let Some(first) = self.keys.get(&key) {
            return Appended { duplicate: true, ..*first };
        }
        let twice = sabotage == Some(Sabotage::NumberTwice) && self.conversation.head > 0;
        let seq = self.conversation.head + u64::from(!twice);
        let appended = Appended { id: message.id, seq, at_ms: time::now_ms(), duplicate: false };
        if sabotage == Some(Sabotage::AcknowledgeOnly) {
            return appended;
        }
        self.conversation.head = seq;
        self.keys.insert(key, appended);
        self.messages.push(Message {
            seq,
            id: message.id,
            sender: message.sender.clone(),
            role: message.role,
            content: message.content.to_string(),
            metadata: message.metadata.as_ref().map(ToString::to_string),
            at_ms: appended.at_ms,
        });
        appended
    }
}

/// The log, as one node reaches it.
pub struct LogClient {
    pub log: Arc<Log>,
    pub line: Line,
    pub connections: Connections,
}

/// A node's connections to the database: who finds none free waits, in the order of arrival.
pub struct Connections {
    reads: Semaphore,
    /// `None`: messages take those of the reads.
    appends: Option<Semaphore>,
}

impl Connections {
    /// So many for everything but messages, which have some of their own unless they `share` these.
    pub fn new(reads: usize, share: bool) -> Connections {
        Connections { reads: Semaphore::new(reads), appends: (!share).then(|| Semaphore::new(reads)) }
    }
}

impl LogClient {
    async fn ask<T>(&self, ask: impl FnOnce(&Log) -> T) -> Result<T, Error> {
        self.ask_by(&self.connections.reads, ask).await
    }

    async fn ask_by<T>(&self, connections: &Semaphore, ask: impl FnOnce(&Log) -> T) -> Result<T, Error> {
        let _connection = connections.acquire().await.expect("a semaphore that nobody closes");
        let answer = self.line.call(async { ask(&self.log) }).await;
        answer.map_err(|NoAnswer| Error::Unavailable("simulated".to_owned()))
    }
}

fn head_of(conversation: &Conversation) -> ConversationHead {
    let Conversation { id, head, members_version, details_version, ref log, .. } = *conversation;
    ConversationHead { id, head, members_version, details_version, log: log.clone() }
}

/// For what no simulated client asks.
fn not_simulated<T>() -> Result<T, Error> {
    Err(Error::Refused("not simulated".to_owned()))
}

#[async_trait]
impl ConversationStore for LogClient {
    async fn migrate(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn is_migrated(&self) -> Result<bool, Error> {
        Ok(true)
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.ask(|_| "0".to_owned()).await
    }

    async fn report_head(&self, id: ConversationId, known: u64, _log: &str) -> Result<bool, Error> {
        self.ask(|log| log.state.lock().entry(id).is_some_and(|entry| entry.conversation.head < known)).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        not_simulated()
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        let connections = self.connections.appends.as_ref().unwrap_or(&self.connections.reads);
        self.ask_by(connections, |log| log.append(batch)).await
    }

    async fn create_within(&self, new: &NewConversation, _max: u64) -> Result<Option<Created>, Error> {
        self.ask(|log| Some(log.create(new))).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        self.ask(|log| log.state.lock().named(tenant, conversation).map(|entry| entry.conversation.clone()))
            .await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        self.ask(|log| {
            let mut state = log.state.lock();
            ids.iter().filter_map(|id| Some(state.entry(*id)?.conversation.clone())).collect()
        })
        .await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        self.ask(|log| {
            let mut state = log.state.lock();
            let mut head = |id: &ConversationId| Some(head_of(&state.entry(*id)?.conversation));
            ids.iter().filter_map(&mut head).collect()
        })
        .await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        _fresh: bool,
    ) -> Result<Page, Error> {
        self.ask(|log| log.messages(id, range, limit, bytes_max)).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<u64>>, Error> {
        self.ask(|log| {
            let mut state = log.state.lock();
            let mut raise = |mark: &ReadMark| {
                let Entry { conversation, marks, .. } = state.entry(mark.conversation)?;
                let seq = mark.seq.min(conversation.head);
                let member = conversation.members.iter_mut().find(|member| *member.user == *mark.user)?;
                (seq > member.read).then(|| {
                    member.read = seq;
                    let highest = marks.entry(member.user.clone()).or_default();
                    *highest = seq.max(*highest);
                    seq
                })
            };
            batch.iter().map(&mut raise).collect()
        })
        .await
    }

    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        _members_max: u64,
    ) -> Result<Option<Added>, Error> {
        self.ask(|log| Some(Added::Member(log.state.lock().entry(id)?.set_member(user, true)))).await
    }

    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error> {
        self.ask(|log| Some(log.state.lock().entry(id)?.set_member(user, false))).await
    }

    async fn update(
        &self,
        _id: ConversationId,
        _title: Option<Option<String>>,
        _metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        not_simulated()
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        self.ask(|log| log.delete(id)).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        Ok(false)
    }

    async fn conversations_of(
        &self,
        _tenant: &TenantName,
        _user: &UserName,
        _cursor: Option<ListCursor>,
        _limit: u32,
    ) -> Result<ConversationList, Error> {
        not_simulated()
    }

    async fn share_conversation(
        &self,
        _tenant: &TenantName,
        _one: &UserName,
        _other: &UserName,
    ) -> Result<bool, Error> {
        not_simulated()
    }

    async fn count_conversations(&self, _tenant: &TenantName, _at_most: u64) -> Result<u64, Error> {
        not_simulated()
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        self.ask(|log| {
            let mut state = log.state.lock();
            for seen in batch {
                let at = state.last_seen.entry((seen.tenant.clone(), seen.user.clone())).or_default();
                *at = seen.at_ms.max(*at);
            }
        })
        .await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error> {
        self.ask(|log| {
            let state = log.state.lock();
            let wanted = |of: &TenantName, user: &UserName| of == tenant && users.contains(user);
            let known = state.last_seen.iter().filter(|((of, user), _)| wanted(of, user));
            known
                .map(|((tenant, user), at_ms)| LastSeen {
                    tenant: tenant.clone(),
                    user: user.clone(),
                    at_ms: *at_ms,
                })
                .collect()
        })
        .await
    }

    async fn end_session(&self, session: &str, _kept: Duration) -> Result<(), Error> {
        if self.log.sabotage == Some(Sabotage::HideEnds) {
            return Ok(());
        }
        let session = session.to_owned();
        self.ask(|log| _ = log.state.lock().ended.insert(session, time::now_ms())).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        let since_ms = time::now_ms().saturating_sub(i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
        self.ask(|log| {
            let state = log.state.lock();
            let latest = state.ended.iter().filter(|(_, at_ms)| **at_ms > since_ms);
            latest.map(|(session, _)| session.clone()).collect()
        })
        .await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        self.ask(|log| {
            let state = log.state.lock();
            sessions.iter().filter(|session| state.ended.contains_key(*session)).cloned().collect()
        })
        .await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error> {
        self.ask(|log| {
            let state = log.state.lock();
            let is_member =
                |entry: &Entry| entry.conversation.members.iter().any(|member| member.user == *user);
            let found = names.iter().filter(|name| state.named(tenant, name).is_some_and(is_member));
            found.cloned().collect()
        })
        .await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.ask(|_| ()).await
    }

    fn pools(&self) -> Vec<PoolStatus> {
        Vec::new()
    }
}

//! The database as one node reaches it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_conversation_store::{
    Added, Announced, AnnouncedMember, Append, AppendError, Appended, Conversation, ConversationHead,
    ConversationId, ConversationList, ConversationStore, Created, Error, LastSeen, ListCursor, MembersChange,
    NewConversation, Page, PoolStatus, Range, ReadMark, SchemaStatus, Seq,
};
use starling_model::{ConversationName, TenantName, UserName};
use tokio::sync::Semaphore;

use super::super::line::{Line, NoAnswer};
use super::super::sabotage::Sabotage;
use super::super::time;
use super::Log;
use super::entry::Entry;

/// The database as one node reaches it.
pub struct LogClient {
    pub log: Arc<Log>,
    pub line: Line,
    pub connections: Connections,
}

/// A node's connections to the database. A call that finds none free waits; calls are served in the order of arrival.
pub struct Connections {
    reads: Semaphore,
    /// `None`: appends use the connections of the reads.
    appends: Option<Semaphore>,
}

impl Connections {
    /// Makes this many connections for everything but appends. Appends have as many of their own, unless they `share` these.
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

/// The answer to calls that no simulated client causes.
fn not_simulated<T>() -> Result<T, Error> {
    Err(Error::Refused("not simulated".to_owned()))
}

#[async_trait]
impl ConversationStore for LogClient {
    async fn migrate(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        Ok(SchemaStatus::Current)
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.ask(|_| "0".to_owned()).await
    }

    async fn report_head(&self, id: ConversationId, known: Seq, _log: &str) -> Result<bool, Error> {
        self.ask(|log| log.state.lock().entry(id).is_some_and(|entry| entry.conversation.head < known)).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        not_simulated()
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        let connections = self.connections.appends.as_ref().unwrap_or(&self.connections.reads);
        self.ask_by(connections, |log| log.append(batch)).await
    }

    async fn announced(&self, _limit: u16) -> Result<Vec<Announced>, Error> {
        not_simulated()
    }

    async fn forget_announced(&self, _positions: &[i64]) -> Result<(), Error> {
        not_simulated()
    }

    async fn announced_members(&self, _limit: u16) -> Result<Vec<AnnouncedMember>, Error> {
        not_simulated()
    }

    async fn forget_announced_members(&self, _positions: &[i64]) -> Result<(), Error> {
        not_simulated()
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

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error> {
        self.ask(|log| {
            let mut state = log.state.lock();
            batch.iter().map(|mark| state.entry(mark.conversation)?.raise_mark(mark)).collect()
        })
        .await
    }

    async fn add_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        _members_max: u64,
        _announced: bool,
    ) -> Result<Option<Added>, Error> {
        self.ask(|log| Some(Added::Member(log.state.lock().entry(id)?.set_member(user, true)))).await
    }

    async fn remove_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        _announced: bool,
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

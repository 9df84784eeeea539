//! The conversations in the simulated database.

use std::collections::{BTreeMap, BTreeSet};

use starling_conversation_store::{
    Append, Appended, Conversation, ConversationId, Member, MembersChange, Message, NewConversation, Page,
    Range, ReadMark, Seq,
};
use starling_model::{ConversationName, TenantName, UserName};

use super::super::sabotage::Sabotage;
use super::super::time;

/// Everything in the database.
#[derive(Default)]
pub(super) struct State {
    /// The conversations, deleted ones included. The id of a conversation is its position, from 1.
    pub conversations: Vec<Entry>,
    pub last_seen: BTreeMap<(TenantName, UserName), i64>,
    /// Ended sessions, and when each was ended, Unix milliseconds.
    pub ended: BTreeMap<String, i64>,
    /// The number of appends so far.
    pub appends: u64,
}

/// A conversation.
pub(super) struct Entry {
    pub is_deleted: bool,
    pub tenant: TenantName,
    pub conversation: Conversation,
    pub messages: Vec<Message>,
    /// Users who were members once and were removed.
    pub removed: BTreeSet<UserName>,
    /// The highest read mark that each user ever had.
    pub marks: BTreeMap<UserName, Seq>,
    /// The first append with each key of each sender.
    keys: BTreeMap<(UserName, String), Appended>,
}

impl State {
    /// Returns the conversation with this id, unless it was deleted.
    pub fn entry(&mut self, id: ConversationId) -> Option<&mut Entry> {
        let entry = self.conversations.get_mut(usize::try_from(id.get()).ok()?.checked_sub(1)?);
        entry.filter(|entry| !entry.is_deleted)
    }

    /// Returns the conversation that has this name now.
    pub fn named(&self, tenant: &TenantName, name: &ConversationName) -> Option<&Entry> {
        self.conversations.iter().find(|entry| {
            !entry.is_deleted && entry.tenant == *tenant && entry.conversation.conversation == *name
        })
    }

    /// Returns the conversation with this name and log, deleted or not.
    pub fn with_log(&self, name: &str, log: &str) -> Option<&Entry> {
        self.conversations
            .iter()
            .rev()
            .find(|Entry { conversation, .. }| conversation.conversation == name && conversation.log == log)
    }
}

impl Entry {
    /// Makes a conversation without messages.
    pub fn new(id: ConversationId, log: String, new: &NewConversation) -> Entry {
        let users: BTreeSet<UserName> = new.members.iter().chain([&new.owner]).cloned().collect();
        Entry {
            is_deleted: false,
            tenant: new.tenant.clone(),
            conversation: Conversation {
                id,
                conversation: new.conversation.clone(),
                owner: new.owner.clone(),
                title: new.title.clone(),
                metadata: new.metadata.clone(),
                created_at_ms: time::now_ms(),
                head: Seq::ZERO,
                members: users.into_iter().map(|user| Member { user, read: Seq::ZERO }).collect(),
                members_version: 0,
                details_version: 0,
                log,
            },
            messages: Vec::new(),
            removed: BTreeSet::new(),
            marks: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Adds or removes a member.
    pub fn set_member(&mut self, user: &UserName, wanted: bool) -> MembersChange {
        let Conversation { members, members_version, .. } = &mut self.conversation;
        let changed = match (members.binary_search_by(|member| member.user.cmp(user)), wanted) {
            (Err(at), true) => {
                members.insert(at, Member { user: user.to_owned(), read: Seq::ZERO });
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

    /// Raises a read mark, and returns it if it was lower before.
    pub fn raise_mark(&mut self, mark: &ReadMark) -> Option<Seq> {
        let seq = mark.seq.min(self.conversation.head);
        let member = self.conversation.members.iter_mut().find(|member| *member.user == *mark.user)?;
        (seq > member.read).then(|| {
            member.read = seq;
            let highest = self.marks.entry(member.user.clone()).or_default();
            *highest = seq.max(*highest);
            seq
        })
    }

    /// Appends a message, unless its sender used its key before.
    pub fn append(&mut self, message: &Append, sabotage: Option<Sabotage>) -> Appended {
        let key = (message.sender.clone(), message.key.clone());
        if let Some(first) = self.keys.get(&key) {
            return Appended { duplicate: true, ..*first };
        }
        let head = self.conversation.head;
        let twice = sabotage == Some(Sabotage::NumberTwice) && head > Seq::ZERO;
        let seq = if twice { head } else { head.next() };
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

    /// Returns a page of messages, in the order of their seqs. It has at least one message, if there is one.
    pub fn page(&self, range: Range, limit: u32, bytes_max: usize) -> Page {
        let mut bytes = 0;
        let mut fits = |index: usize, message: &Message| {
            bytes += message.content.len() + message.metadata.as_ref().map_or(0, String::len);
            index == 0 || (bytes <= bytes_max && index < limit as usize)
        };
        let forwards = |after: Seq| self.messages.iter().filter(move |message| message.seq > after);
        let backwards = |before: Seq| self.messages.iter().rev().filter(move |message| message.seq < before);
        let (messages, all): (Vec<Message>, usize) = match range {
            Range::After(after) => {
                let taken = forwards(after).enumerate().take_while(|(index, message)| fits(*index, message));
                (taken.map(|(_, message)| message.clone()).collect(), forwards(after).count())
            }
            Range::Before(_) | Range::Newest => {
                let before = if let Range::Before(before) = range { before } else { Seq::MAX };
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

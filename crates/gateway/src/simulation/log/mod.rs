//! The simulated database: one log that all nodes share. Each node reaches it over a line of its own.

mod client;
mod entry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use client::{Connections, LogClient};
use entry::{Entry, State};
use parking_lot::Mutex;
use starling_conversation_store::{
    Append, AppendError, Appended, Conversation, ConversationId, Created, Message, NewConversation, Page,
    Range, Seq,
};

use super::names::TENANT;
use super::sabotage::Sabotage;

/// A sabotage of appends affects one in this many.
const SABOTAGE_ONE_IN: u64 = 9;

/// The database, which all nodes share.
#[derive(Default)]
pub struct Log {
    state: Mutex<State>,
    /// The number of pages of messages that were read.
    pages: AtomicU64,
    sabotage: Option<Sabotage>,
}

impl Log {
    /// Makes an empty database.
    pub fn new(sabotage: Option<Sabotage>) -> Arc<Log> {
        Arc::new(Log { sabotage, ..Log::default() })
    }

    /// Returns all messages that were committed, by conversation and log, including those of deleted conversations.
    pub fn all(&self) -> BTreeMap<(String, String), Vec<Message>> {
        let state = self.state.lock();
        let place = |of: &Conversation| (of.conversation.to_string(), of.log.clone());
        state.conversations.iter().map(|entry| (place(&entry.conversation), entry.messages.clone())).collect()
    }

    /// Returns the log id and the head of the conversation that has this name now.
    pub fn head_of(&self, name: &str) -> Option<(String, Seq)> {
        let state = self.state.lock();
        let Conversation { log, head, .. } = &state.named(&TENANT.into(), &name.into())?.conversation;
        Some((log.clone(), *head))
    }

    /// Returns the number of pages of messages that were read so far.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Returns the id of the conversation that has this name now.
    pub fn number_of(&self, name: &str) -> Option<ConversationId> {
        Some(self.state.lock().named(&TENANT.into(), &name.into())?.conversation.id)
    }

    /// Whether a user was ever removed from this log, or the log was deleted.
    pub fn has_removed(&self, name: &str, log: &str, user: &str) -> bool {
        let state = self.state.lock();
        state.with_log(name, log).is_none_or(|entry| entry.is_deleted || entry.removed.contains(user))
    }

    /// Returns when a conversation was created, deleted or not, Unix milliseconds.
    pub fn made_at_ms(&self, name: &str, log: &str) -> Option<i64> {
        Some(self.state.lock().with_log(name, log)?.conversation.created_at_ms)
    }

    /// Returns the highest read mark that a user ever had in a conversation, deleted or not. A user who is removed and comes back begins at
    /// 0, and an earlier mark may be heard after that.
    pub fn mark_of(&self, name: &str, log: &str, user: &str) -> Seq {
        let state = self.state.lock();
        state.with_log(name, log).and_then(|entry| entry.marks.get(user)).copied().unwrap_or_default()
    }

    /// Creates a conversation, if its name is free.
    pub fn create(&self, new: &NewConversation) -> Created {
        let mut state = self.state.lock();
        if let Some(entry) = state.named(&new.tenant, &new.conversation) {
            let member = entry.conversation.members.iter().any(|member| member.user == new.owner);
            return Created { id: entry.conversation.id, created: false, member };
        }
        let id = ConversationId::new(state.conversations.len() as i64 + 1);
        let log = match self.sabotage {
            Some(Sabotage::KeepLog) => "0-1".to_owned(),
            _ => format!("0-{id}"),
        };
        state.conversations.push(Entry::new(id, log, new));
        Created { id, created: true, member: true }
    }

    fn delete(&self, id: ConversationId) -> bool {
        let mut state = self.state.lock();
        state.entry(id).is_some_and(|entry| !std::mem::replace(&mut entry.is_deleted, true))
    }

    fn append(&self, batch: &[Append]) -> Vec<Result<Appended, AppendError>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        batch
            .iter()
            .map(|message| {
                state.appends += 1;
                let sabotage = self.sabotage.filter(|_| state.appends.is_multiple_of(SABOTAGE_ONE_IN));
                let entry = state.entry(message.conversation).ok_or(AppendError::NoSuchConversation)?;
                Ok(entry.append(message, sabotage))
            })
            .collect()
    }

    fn messages(&self, id: ConversationId, range: Range, limit: u32, bytes_max: usize) -> Page {
        self.pages.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.entry(id).map_or_else(Page::default, |entry| entry.page(range, limit, bytes_max))
    }
}

//! What a client reports about itself, for the checks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// What a client reports about itself.
#[derive(Clone, Debug, Default)]
pub struct ClientState {
    pub cursors: BTreeMap<String, Cursor>,
    /// The conversations that are joined on the present connection; for those joined by `join`, who is online.
    pub joined: BTreeMap<String, Option<BTreeMap<String, bool>>>,
    /// Each conversation and log that it was ever told to have joined.
    pub logs: BTreeSet<(String, String)>,
    /// The number of its `connect` and `join` without a reply. They may have joined any log.
    pub unanswered: usize,
    /// The session that the client was given last.
    pub session: String,
    /// The number of connections that it left open when it opened a later one for the same session.
    pub left_behind: usize,
    /// Whether it has gone for good.
    pub has_left: bool,
    /// Whether its script is done.
    pub is_done: bool,
}

/// How far a client has seen a conversation.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    pub seq: u64,
    /// The log id, which the first reply tells.
    pub log: Option<String>,
}

impl ClientState {
    /// Whether the client may ever have joined a log.
    pub fn may_have_joined(&self, conversation: &str, log: &str) -> bool {
        self.unanswered > 0 || self.logs.contains(&(conversation.to_owned(), log.to_owned()))
    }

    /// Notes that the client has gone for good.
    pub fn leave(&mut self) {
        self.has_left = true;
        self.joined.clear();
    }
}

impl Cursor {
    /// Returns the cursor as a `connect` sends it.
    pub fn to_json(&self) -> Value {
        match &self.log {
            Some(log) => json!({ "seq": self.seq, "log": log }),
            None => self.seq.into(),
        }
    }
}

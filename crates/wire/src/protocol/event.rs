//! What a node tells without being asked. Field order is the order on the wire; `ev` comes first.

use super::{Json, Timestamp};

/// A `message` event.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where.
    pub conversation: &'a str,
    /// Its number.
    pub seq: u64,
    /// Its id: a UUID as a number.
    pub id: u128,
    /// Who it stands under.
    pub sender: &'a str,
    /// `user`, `assistant`, `system`, `tool`.
    pub role: &'a str,
    /// The text.
    pub content: &'a str,
    /// A JSON object.
    pub metadata: Option<&'a Json>,
    /// When it was committed.
    pub at: Timestamp,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something was said.
    Message(Message<'a>),
    /// Somebody has read.
    Read {
        /// Where.
        conversation: &'a str,
        /// Who.
        user: &'a str,
        /// Up to and with this number.
        seq: u64,
    },
    /// Somebody types, or stopped.
    Typing {
        /// Where.
        conversation: &'a str,
        /// Who.
        user: &'a str,
        /// Whether.
        typing: bool,
    },
    /// Somebody came or went.
    Presence {
        /// Where.
        conversation: &'a str,
        /// Who.
        user: &'a str,
        /// Which.
        online: bool,
        /// When last, for one who went.
        last_seen: Option<Timestamp>,
    },
    /// Somebody became a member, or is none any more.
    Member {
        /// Where.
        conversation: &'a str,
        /// Who.
        user: &'a str,
        /// Which.
        member: bool,
    },
    /// A conversation's title or metadata changed. Carries both as they are now.
    Updated {
        /// Where.
        conversation: &'a str,
        /// Shown to people.
        title: Option<&'a str>,
        /// A JSON object.
        metadata: Option<&'a Json>,
    },
    /// A conversation was deleted.
    Deleted {
        /// Where.
        conversation: &'a str,
        /// Which log is gone: a conversation that is made again under the name has another one.
        log: &'a str,
    },
    /// Something was published.
    Publication {
        /// Where.
        topic: &'a str,
        /// Its number.
        offset: u64,
        /// Any value.
        data: &'a Json,
        /// Who published it.
        sender: Option<&'a str>,
    },
    /// The node is on its way out.
    Draining {
        /// When to open a second socket.
        reconnect_after_ms: u64,
    },
}

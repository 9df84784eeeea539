//! What a node tells without being asked. Field order is the order on the wire; `ev` comes first.

use serde::{Serialize, Serializer};

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

/// Writes a UUID as text, 8-4-4-4-12 lower-case hexadecimal digits.
pub(super) fn hyphenated<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    let h = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..]).serialize(serializer)
}

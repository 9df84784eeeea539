//! Replies to commands that succeeded.

use bytes::Bytes;
use starling_wire::protocol::{self, Encoding};

/// The `ok` of a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A reply without fields.
    Empty,
    /// The reply to `connect`.
    Connected(Box<protocol::Connected>),
    /// The reply to `refresh`.
    Refreshed(protocol::Refreshed),
    /// The reply to `create`.
    Created(protocol::Created),
    /// The reply to `join`.
    Joined(Box<protocol::Joined>),
    /// The reply to `send`.
    Sent(protocol::Sent),
    /// The reply to `history`.
    History(Box<protocol::HistoryPage>),
    /// The reply to `presence`.
    Presence(protocol::PresenceList),
    /// The reply to `subscribe`.
    Subscribed(protocol::Subscribed),
    /// The reply to `publish`.
    Published(protocol::Published),
}

impl Reply {
    /// Returns the finished frame of the reply to the command with this id.
    pub fn frame(&self, encoding: Encoding, id: u64) -> Bytes {
        match self {
            Reply::Empty => protocol::encode_ok_frame(encoding, id, &protocol::Empty {}),
            Reply::Connected(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Refreshed(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Created(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Joined(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Sent(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::History(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Presence(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Subscribed(ok) => protocol::encode_ok_frame(encoding, id, ok),
            Reply::Published(ok) => protocol::encode_ok_frame(encoding, id, ok),
        }
    }
}

impl From<protocol::Sent> for Reply {
    fn from(ok: protocol::Sent) -> Reply {
        Reply::Sent(ok)
    }
}

impl From<protocol::Published> for Reply {
    fn from(ok: protocol::Published) -> Reply {
        Reply::Published(ok)
    }
}

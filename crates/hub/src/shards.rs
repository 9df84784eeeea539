//! The hub's view of the sockets: shards, each with an inbox, that know which socket wants which room.
//!
//! A *room* is a conversation or a topic that somebody on this node has joined or subscribed to; its [`RoomId`] is a short
//! name for it that is valid on this node only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starling_fanout::EpochTag;
use starling_model::UserName;
use starling_wire::protocol::CloseReason;

use crate::{CommandError, Encoded, Reply};

/// The number of a conversation or a topic on this node. Another node has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub u64);

/// Gives rooms their ids.
#[derive(Debug, Default)]
pub(crate) struct RoomIds(AtomicU64);

impl RoomIds {
    /// An id that no room of this node has had.
    pub fn next(&self) -> RoomId {
        RoomId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A socket of this node. A number is used again after the socket closed; `generation` tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// The shard that owns it.
    pub shard: u16,
    /// Its place there.
    pub key: u32,
    /// Which of those that had this place.
    pub generation: u32,
}

/// Something for a shard.
#[derive(Debug)]
pub enum ShardItem {
    /// A conversation's next message. Comes in the order of the numbers; where a number is left out (the inbox was
    /// full), the shard serves the room's sockets from the log.
    Message {
        /// Where.
        room: RoomId,
        /// Its number.
        seq: u64,
        /// The event.
        event: Arc<Encoded>,
    },
    /// Says that a room's newest number is (at least) this one, in case the last message did not fit the inbox.
    Head {
        /// Where.
        room: RoomId,
        /// The newest number.
        seq: u64,
    },
    /// A topic's next publication.
    Publication {
        /// Where.
        room: RoomId,
        /// Which numbering `offset` belongs to, where that is known.
        epoch: Option<EpochTag>,
        /// Its number.
        offset: u64,
        /// The event.
        event: Arc<Encoded>,
    },
    /// Something that may be lost: typing, presence, read marks, membership.
    Ephemeral {
        /// Where.
        room: RoomId,
        /// The event.
        event: Arc<Encoded>,
        /// Not for this user's sockets.
        except: Option<UserName>,
    },
    /// The answer to a command that was answered [`crate::Handling::Later`].
    Reply {
        /// Whose.
        socket: SocketId,
        /// The command's id.
        id: u64,
        /// The answer.
        reply: Result<Reply, CommandError>,
    },
    /// An event for one socket.
    Event {
        /// Whose.
        socket: SocketId,
        /// The event.
        event: Arc<Encoded>,
    },
    /// The socket is no longer in this room.
    Evict {
        /// Whose.
        socket: SocketId,
        /// Which room.
        room: RoomId,
    },
    /// The socket is to be closed.
    Close {
        /// Whose.
        socket: SocketId,
        /// Why.
        reason: CloseReason,
    },
}

/// The inboxes of all shards.
pub trait Shards: Send + Sync + 'static {
    /// Puts something into a shard's inbox, at once. `false`: the inbox is full and the item is dropped.
    fn post(&self, shard: u16, item: ShardItem) -> bool;
}

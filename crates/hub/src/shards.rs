//! The hub's view of the connections: shards with an inbox each, which know the channels of their connections.
//!
//! A *channel* is a conversation or a topic that a session on this node has joined or subscribed to. Its [`ChannelId`] is valid on this
//! node only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use starling_fanout::EpochTag;
use starling_model::{Seq, UserName};
use starling_wire::protocol::CloseReason;

use crate::{CommandError, Encoded, Reply};

/// The id of a channel on this node. Other nodes have other ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// Gives channels their ids.
#[derive(Debug, Default)]
pub(crate) struct ChannelIds(AtomicU64);

impl ChannelIds {
    /// Returns an id that no channel of this node has had.
    pub fn next(&self) -> ChannelId {
        ChannelId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The id of a connection on this node. Its `key` is reused after the connection closed, with another `generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// The shard that owns the connection.
    pub shard: u16,
    /// The connection's slot in the shard.
    pub key: u32,
    /// Distinguishes the connections that used the slot one after the other.
    pub generation: u32,
}

/// An item of a shard's inbox.
#[derive(Debug)]
pub enum ShardItem {
    /// The next message of a conversation. Messages come in order. If a seq is left out, because the inbox was full, the shard serves the
    /// channel's subscriptions from the log.
    Message {
        /// The conversation's channel.
        channel: ChannelId,
        /// The message's seq.
        seq: Seq,
        /// The event.
        event: Arc<Encoded>,
    },
    /// A conversation's head is at least this one. Sent if the last message may not have fit into the inbox.
    Head {
        /// The conversation's channel.
        channel: ChannelId,
        /// The head.
        seq: Seq,
    },
    /// The next publication of a topic.
    Publication {
        /// The topic's channel.
        channel: ChannelId,
        /// The epoch of `offset`, if it is known.
        epoch: Option<EpochTag>,
        /// The publication's offset.
        offset: u64,
        /// The event.
        event: Arc<Encoded>,
    },
    /// An event that may be lost: typing, presence, read marks, membership.
    Ephemeral {
        /// The channel whose subscriptions get the event.
        channel: ChannelId,
        /// The event.
        event: Arc<Encoded>,
        /// The user whose connections don't get the event.
        except: Option<UserName>,
    },
    /// The reply to a command that was [`crate::Handling::Later`].
    Reply {
        /// The connection that sent the command.
        socket: SocketId,
        /// The command's id.
        id: u64,
        /// The reply.
        reply: Result<Reply, CommandError>,
    },
    /// An event for one connection, which must not be lost.
    Event {
        /// The connection that gets the event.
        socket: SocketId,
        /// The event.
        event: Arc<Encoded>,
    },
    /// A connection's session is no longer in this channel.
    Evict {
        /// The connection.
        socket: SocketId,
        /// The channel.
        channel: ChannelId,
    },
    /// A connection must be closed.
    Close {
        /// The connection.
        socket: SocketId,
        /// The reason, which becomes the close code.
        reason: CloseReason,
    },
}

/// The inboxes of all shards.
pub trait Shards: Send + Sync + 'static {
    /// Puts an item into a shard's inbox without waiting. `false`: the inbox is full and the item was dropped.
    fn post(&self, shard: u16, item: ShardItem) -> bool;
}

//! Replies to commands, and what the connection's shard must do with them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use starling_wire::protocol::{self, Encoding};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::shards::{ChannelId, ShardItem, Shards, SocketId};
use crate::{CommandError, PreparedConnect, PreparedJoin, PreparedSubscribe};

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

/// How a command gets its reply.
pub enum Handling {
    /// The reply is here.
    Now(Answer),
    /// The reply comes through the shard's inbox, as [`ShardItem::Reply`]. Further commands may begin meanwhile.
    Later,
    /// The reply is the result of this future. No further command of the connection may begin before.
    Async(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// A reply, and what must be done with the connection for it.
pub enum Answer {
    /// Send the reply.
    Reply(Result<Reply, CommandError>),
    /// `connect` succeeded: attach the session.
    Connect(Box<PreparedConnect>),
    /// `connect` was refused: reply, then close with 4401, or with 4429 if the error is `rate_limited`.
    Refused(CommandError),
    /// The session was ended or attached elsewhere during `connect`: close without a reply.
    Close(protocol::CloseReason),
    /// `join` succeeded: attach the session to the room.
    Join(PreparedJoin),
    /// `subscribe` succeeded: attach the session to the topic.
    Subscribe(PreparedSubscribe),
    /// `refresh` succeeded: note when the new token expires, and detach from the topics that it does not allow.
    Refreshed(protocol::Refreshed, Vec<ChannelId>),
    /// `leave` or `unsubscribe`: detach from the channel, if the session was in it.
    Leave(Option<ChannelId>),
}

impl From<Result<Reply, CommandError>> for Answer {
    fn from(reply: Result<Reply, CommandError>) -> Answer {
        Answer::Reply(reply)
    }
}

/// The receiver of the reply to a command that waits on a lane.
pub enum Completion<T> {
    /// The reply goes to a connection.
    Socket {
        /// The connection.
        socket: SocketId,
        /// The command's id.
        id: u64,
        /// When the command came, to measure how long it took.
        began: Instant,
    },
    /// The reply goes to a caller that waits.
    Caller(oneshot::Sender<Result<T, CommandError>>),
}

impl<T: Into<Reply>> Completion<T> {
    /// Sends the reply.
    pub fn finish(self, shards: &Arc<dyn Shards>, result: Result<T, CommandError>) {
        match self {
            Completion::Socket { socket, id, began } => {
                METRICS.command_seconds.record(began.elapsed());
                let reply = result.map(Into::into);
                if !shards.post(socket.shard, ShardItem::Reply { socket, id, reply }) {
                    tracing::warn!(?socket, "a shard's inbox is full; a reply was lost with its connection");
                }
            }
            Completion::Caller(caller) => {
                // The caller may have gone. The command is done all the same.
                let _ = caller.send(result);
            }
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

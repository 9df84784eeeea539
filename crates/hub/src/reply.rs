//! Answers to commands, and what has to be done on the socket's shard with them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use starling_wire::protocol::{self, Encoding};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::shards::{RoomId, ShardItem, Shards, SocketId};
use crate::{CommandError, PreparedConnect, PreparedJoin, PreparedSubscribe};

/// The `ok` of a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Nothing to say.
    Empty,
    /// `connect`
    Connected(Box<protocol::Connected>),
    /// `refresh`
    Refreshed(protocol::Refreshed),
    /// `create`
    Created(protocol::Created),
    /// `join`
    Joined(Box<protocol::Joined>),
    /// `send`
    Sent(protocol::Sent),
    /// `history`
    History(Box<protocol::HistoryPage>),
    /// `presence`
    Presence(protocol::PresenceList),
    /// `subscribe`
    Subscribed(protocol::Subscribed),
    /// `publish`
    Published(protocol::Published),
}

impl Reply {
    /// The finished frame under the command's id.
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

/// How a command is being answered.
pub enum Handling {
    /// At once.
    Now(Answer),
    /// Through the shard's inbox, as [`ShardItem::Reply`]; further commands may be taken meanwhile.
    Later,
    /// When this is done; no further command of the connection may be taken before.
    Async(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// An answer, and what has to be done with the socket for it.
pub enum Answer {
    /// Only the reply.
    Reply(Result<Reply, CommandError>),
    /// `connect` succeeded: attach the session.
    Connect(Box<PreparedConnect>),
    /// `connect` is out of the question: reply, then close, with 4401, or with 4429 where the fault is `rate_limited`.
    Refused(CommandError),
    /// `connect` came to nothing because of what happened to the session meanwhile: close, without a reply.
    Close(protocol::CloseReason),
    /// `join` succeeded: attach the socket to the room.
    Join(PreparedJoin),
    /// `subscribe` succeeded: attach the socket to the topic.
    Subscribe(PreparedSubscribe),
    /// `refresh` succeeded: take the socket out of the topics that the new token does not allow, and look when it ends.
    Refreshed(protocol::Refreshed, Vec<RoomId>),
    /// `leave` or `unsubscribe`: take the socket out of the room, if it is in one.
    Leave(Option<RoomId>),
}

impl From<Result<Reply, CommandError>> for Answer {
    fn from(reply: Result<Reply, CommandError>) -> Answer {
        Answer::Reply(reply)
    }
}

/// Where the answer to a command that waits on a lane goes.
pub enum Completion<T> {
    /// To a socket.
    Socket {
        /// Which.
        socket: SocketId,
        /// The command's id.
        id: u64,
        /// When the command came.
        began: Instant,
    },
    /// To a caller that waits.
    Caller(oneshot::Sender<Result<T, CommandError>>),
}

impl<T: Into<Reply>> Completion<T> {
    /// Answers.
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
                // The caller may have gone; the deed is done all the same.
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

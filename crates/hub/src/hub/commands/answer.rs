//! The outcome of a command: its reply, and what the connection's shard must do with it.

use std::future::Future;
use std::pin::Pin;

use starling_wire::protocol;

use super::connect::PreparedConnect;
use super::join::PreparedJoin;
use super::subscribe::PreparedSubscribe;
use crate::shards::ChannelId;
use crate::{CommandError, Reply};

/// How a command gets its reply.
pub enum Handling {
    /// The reply is here.
    Now(Answer),
    /// The reply comes through the shard's inbox, as [`crate::ShardItem::Reply`]. Further commands may begin meanwhile.
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

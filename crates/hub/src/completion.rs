//! Sends the reply to a command that waits on a lane.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::shards::{ShardItem, Shards, SocketId};
use crate::{CommandError, Reply};

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

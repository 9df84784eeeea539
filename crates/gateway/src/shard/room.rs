//! A room on a shard: which sockets want it, and what of it came in this turn.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use starling_hub::{Encoded, EpochTag};
use starling_wire::protocol::Encoding;

/// A room on a shard.
#[derive(Default)]
pub(crate) struct ShardRoom {
    /// Who wants it: the connection, and the place among its subscriptions.
    pub subs: Vec<SubRef>,
    /// The last number that this shard handed out; for topics the last offset.
    pub delivered: u64,
    /// What came in this turn, in order.
    pub pending: Vec<Pending>,
}

/// A subscription of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubRef {
    pub conn: u32,
    pub sub: u32,
}

/// An event that waits for the end of the turn.
pub(crate) struct Pending {
    /// Its number.
    pub seq: u64,
    /// The event.
    pub event: Arc<Encoded>,
    /// Whether the log has it.
    pub durable: bool,
    /// Of a topic: which numbering `seq` belongs to, where that is known.
    pub epoch: Option<EpochTag>,
}

/// The frames of some events, as one piece that all sockets share: framed once, copied once, however many get it.
pub(crate) fn joined_frames(events: &[Pending], encoding: Encoding) -> Bytes {
    match events {
        [one] => one.event.frame(encoding).clone(),
        _ => {
            let length = events.iter().map(|pending| pending.event.frame(encoding).len()).sum();
            let mut all = BytesMut::with_capacity(length);
            for pending in events {
                all.extend_from_slice(pending.event.frame(encoding));
            }
            all.freeze()
        }
    }
}

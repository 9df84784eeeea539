//! A channel on a shard: the connections that are in it, and the events of it that came in this turn.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use starling_hub::{Encoded, EpochTag};
use starling_wire::protocol::Encoding;

/// A channel on a shard.
#[derive(Default)]
pub(super) struct Channel {
    /// The subscriptions to it.
    pub subs: Vec<SubRef>,
    /// The last number that came through the inbox; for topics the last offset.
    pub delivered: u64,
    /// Events that came in this turn, in order.
    pub pending: Vec<Pending>,
}

/// A subscription of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubRef {
    /// The connection's place in the table.
    pub conn: u32,
    /// The subscription's slot among those of the connection.
    pub sub: u32,
}

/// An event that waits for the end of the turn.
pub(super) struct Pending {
    pub seq: u64,
    pub event: Arc<Encoded>,
    /// Whether the log has it.
    pub durable: bool,
    /// For a topic: the numbering that `seq` belongs to, where that is known.
    pub epoch: Option<EpochTag>,
}

/// The events of a channel that are delivered at the end of a turn. They are of one kind and one numbering.
pub(super) struct Turn {
    /// Not empty.
    pub events: Vec<Pending>,
    pub first: u64,
    pub last: u64,
    /// Whether the log has them.
    pub durable: bool,
    /// For a topic: the numbering, where that is known.
    pub epoch: Option<EpochTag>,
    joined: JoinedFrames,
}

/// The frames of a turn's events, as one piece for each encoding that is asked for.
#[derive(Default)]
struct JoinedFrames {
    json: Option<Bytes>,
    msgpack: Option<Bytes>,
}

impl Channel {
    /// Removes and returns the events that came in this turn, if there are any.
    pub fn take_turn(&mut self) -> Option<Turn> {
        let events = std::mem::take(&mut self.pending);
        let (first, last) = (events.first()?, events.last()?);
        let (first_seq, last_seq, durable, epoch) = (first.seq, last.seq, first.durable, first.epoch);
        let joined = JoinedFrames::default();
        Some(Turn { events, first: first_seq, last: last_seq, durable, epoch, joined })
    }
}

impl Turn {
    /// The frames of all events, in one piece that all sockets share: framed once and copied once, however many get it.
    pub fn joined(&mut self, encoding: Encoding) -> Bytes {
        let slot = match encoding {
            Encoding::Json => &mut self.joined.json,
            Encoding::MsgPack => &mut self.joined.msgpack,
        };
        slot.get_or_insert_with(|| join(&self.events, encoding)).clone()
    }
}

fn join(events: &[Pending], encoding: Encoding) -> Bytes {
    if let [one] = events {
        return one.event.frame(encoding).clone();
    }
    let length = events.iter().map(|pending| pending.event.frame(encoding).len()).sum();
    let mut all = BytesMut::with_capacity(length);
    for pending in events {
        all.extend_from_slice(pending.event.frame(encoding));
    }
    all.freeze()
}

//! The chunks that wait in an outbox: what kinds there are, and their order.

use std::collections::VecDeque;

use bytes::Bytes;

/// The kind of a chunk, which decides whether it may be dropped when the socket is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A reply, a control frame, or an event for this connection alone: never dropped.
    Reply,
    /// Messages of a conversation: dropped as the second, since the log has them.
    Durable {
        /// The subscription's slot.
        sub: usize,
        /// The number of the first message.
        first: u64,
    },
    /// An event that may be lost: dropped first.
    Ephemeral,
}

/// Finished frames that are written, or dropped, together.
#[derive(Debug)]
pub(super) struct Chunk {
    pub bytes: Bytes,
    pub kind: Kind,
}

/// Chunks in order. Almost always there is none, or one for a moment. One alone is kept in place, so that a delivery allocates nothing.
#[derive(Debug, Default)]
pub(super) enum Chunks {
    /// No chunk.
    #[default]
    None,
    /// One chunk.
    One(Chunk),
    /// More than one, or what is left of them.
    Many(VecDeque<Chunk>),
}

impl Chunks {
    /// Whether there is no chunk.
    pub fn is_empty(&self) -> bool {
        match self {
            Chunks::None => true,
            Chunks::One(_) => false,
            Chunks::Many(chunks) => chunks.is_empty(),
        }
    }

    /// Adds a chunk at the end.
    pub fn push(&mut self, chunk: Chunk) {
        *self = match std::mem::take(self) {
            Chunks::None => Chunks::One(chunk),
            Chunks::One(first) => Chunks::Many(VecDeque::from([first, chunk])),
            Chunks::Many(mut chunks) => {
                chunks.push_back(chunk);
                Chunks::Many(chunks)
            }
        };
    }

    /// The first chunk.
    pub fn front(&self) -> Option<&Chunk> {
        match self {
            Chunks::None => None,
            Chunks::One(chunk) => Some(chunk),
            Chunks::Many(chunks) => chunks.front(),
        }
    }

    /// Removes and returns the first chunk.
    pub fn pop_front(&mut self) -> Option<Chunk> {
        if let Chunks::Many(chunks) = self {
            return chunks.pop_front();
        }
        match std::mem::take(self) {
            Chunks::One(chunk) => Some(chunk),
            Chunks::None | Chunks::Many(_) => None,
        }
    }

    /// All chunks in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        let (begin, end) = match self {
            Chunks::None => Default::default(),
            Chunks::One(chunk) => (std::slice::from_ref(chunk), Default::default()),
            Chunks::Many(chunks) => chunks.as_slices(),
        };
        begin.iter().chain(end)
    }

    /// All chunks in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Chunk> {
        let (begin, end) = match self {
            Chunks::None => Default::default(),
            Chunks::One(chunk) => (std::slice::from_mut(chunk), Default::default()),
            Chunks::Many(chunks) => chunks.as_mut_slices(),
        };
        begin.iter_mut().chain(end)
    }

    /// Removes the chunks for which `keeps` returns `false`. It is asked about each, in order.
    pub fn retain(&mut self, mut keeps: impl FnMut(&Chunk) -> bool) {
        match self {
            Chunks::None => {}
            Chunks::One(chunk) => {
                if !keeps(chunk) {
                    *self = Chunks::None;
                }
            }
            Chunks::Many(chunks) => chunks.retain(keeps),
        }
    }
}

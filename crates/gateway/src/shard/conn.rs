//! A connection, as its shard holds it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use slab::Slab;
use starling_auth::Identity;
use starling_hub::{Answer, CommandError, Encoded, EpochTag, Reply, Room, RoomId, Session, SocketId};
use starling_wire::protocol::{CloseReason, Command, Encoding, Request};
use starling_wire::websocket::deflate::Deflater;
use starling_wire::websocket::{self, Decoder};

use super::outbox::{Flushed, Kind, Outbox};
use super::room::Pending;
use super::socket::Socket;
use super::speed::Speed;
use super::timers::Deadlines;
use crate::addresses::AddressGuard;
use crate::metrics::METRICS;

/// What a topic's subscription holds back at most while its history is read.
pub(crate) const HELD_MAX: usize = 1_024;

/// How many events a connection holds back at most while the answer to `connect` is made.
const EARLY_MAX: usize = 1_024;

/// A connection.
pub(crate) struct Conn {
    /// The socket.
    pub socket: Socket,
    /// Which of those that had this place.
    pub generation: u32,
    /// From bytes to frames.
    pub decoder: Decoder,
    /// Of a connection that negotiated permessage-deflate.
    pub deflater: Option<Box<Deflater>>,
    /// The sub-protocol.
    pub encoding: Encoding,
    /// What waits to be written.
    pub outbox: Outbox,
    /// Set by `connect`.
    pub session: Option<Arc<Session>>,
    /// From the upgrade's `Authorization`, until `connect`.
    pub identity: Option<Box<Identity>>,
    /// The `traceparent` of the handshake, if it is traced: commands are linked to it.
    pub handshake: Option<Box<str>>,
    /// What it is in.
    pub subs: Slab<Sub>,
    /// The connection's task, to be woken.
    pub waker: Option<Waker>,
    /// Answers that are still to come through the inbox.
    pub awaited: u32,
    /// Commands that were read but not yet begun. Empty and without memory, as a rule.
    pub backlog: VecDeque<Request>,
    /// Whether a command is under way that keeps others waiting. Its task says so.
    pub busy: bool,
    /// An answer that is ready but must not overtake those awaited.
    pub held: Option<Box<(u64, Answer)>>,
    /// A command that must not be begun before the awaited answers have come.
    pub waiting: Option<Box<(u64, Command)>>,
    /// The shard's tick when something was last heard.
    pub heard_at: u32,
    /// What becomes due for it, and when.
    pub deadlines: Deadlines,
    /// How fast the client takes what is written.
    pub speed: Speed,
    /// How many bytes were read, and thrown away, after the close frame was queued.
    pub discarded: usize,
    /// How the connection ends, if it does.
    pub phase: Phase,
    /// Command and byte rates.
    pub pace: super::pace::Pace,
    /// Counts the connection against its address while it is held.
    pub _address: Option<AddressGuard>,
    /// Subscriptions that are to be served from the log.
    pub behind: u32,
    /// What came while the answer to `connect` is made, which it must not overtake; `None` at all other times.
    pub early: Option<Box<Early>>,
    /// Whether it is in the list of connections to be written to.
    pub dirty: bool,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Frames go both ways.
    Open,
    /// A close frame was sent; the client's is awaited.
    Closing,
    /// Both have said it, or the client can't be understood any more: nothing but what waits is written.
    Closed,
    /// All is written and said; what still comes is thrown away until the client ends, too. (A socket that is closed over unread
    /// bytes resets the connection, and the client may never see the close frame.)
    Ending,
    /// The socket is broken.
    Broken,
}

/// A subscription of a connection.
pub(crate) struct Sub {
    /// The room's short name.
    pub room: RoomId,
    /// The last number that was put into the outbox (or that the client has).
    pub cursor: u64,
    /// Of a topic: which numbering `cursor` belongs to, where that is known.
    pub epoch: Option<EpochTag>,
    /// How it is served.
    pub state: SubState,
    /// Of a topic: the shard's tick when it went live.
    pub since: u32,
    /// The conversation's log; `None` for a topic.
    pub log: Option<Arc<Room>>,
}

/// Events that came early.
#[derive(Default)]
pub(crate) struct Early {
    events: Vec<(Arc<Encoded>, Kind)>,
}

/// How a subscription is served.
pub(crate) enum SubState {
    /// From the inbox.
    Live,
    /// From the log, until it has caught up with its room.
    Behind {
        /// And at least up to here: what came before the socket was attached may never come through the inbox, since nobody of this
        /// shard may have been attached then, although an older connection, about to close, still holds the room.
        until: u64,
    },
    /// Not yet: a topic whose history is being read. Holds back what comes meanwhile.
    Held(Vec<Held>),
}

/// A publication that is held back.
pub(crate) struct Held {
    /// Its number.
    pub seq: u64,
    /// Which numbering that belongs to, where it is known.
    pub epoch: Option<EpochTag>,
    /// The event.
    pub event: Arc<Encoded>,
}

impl From<&Pending> for Held {
    fn from(pending: &Pending) -> Held {
        Held { seq: pending.seq, epoch: pending.epoch, event: pending.event.clone() }
    }
}

impl Conn {
    /// Its name on this node.
    pub fn id(&self, shard: u16, key: u32) -> SocketId {
        SocketId { shard, key, generation: self.generation }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Queues a finished frame, or its compressed form.
    pub fn push(&mut self, frame: Bytes, kind: Kind) {
        if self.phase != Phase::Open {
            return;
        }
        let frame = match &mut self.deflater {
            Some(deflater) => deflater.compress(&frame),
            None => frame,
        };
        self.outbox.push(frame, kind);
    }

    /// Queues an event, behind the answer to `connect`.
    pub fn tell(&mut self, event: &Arc<Encoded>, kind: Kind) {
        match &mut self.early {
            None => {
                let frame = event.frame(self.encoding).clone();
                self.push(frame, kind);
            }
            Some(early) if kind == Kind::Reply || early.events.len() < EARLY_MAX => {
                early.events.push((event.clone(), kind));
            }
            Some(_) => METRICS.dropped_ephemeral.increment(1),
        }
    }

    /// Queues what came early: `connect` has been answered.
    pub fn tell_early(&mut self) {
        for (event, kind) in self.early.take().into_iter().flat_map(|early| early.events) {
            self.tell(&event, kind);
        }
    }

    /// Queues an answer.
    pub fn reply(&mut self, id: u64, reply: &Result<Reply, CommandError>) {
        let frame = match reply {
            Ok(ok) => ok.frame(self.encoding, id),
            Err(error) => {
                METRICS.command_error(error.code);
                starling_wire::protocol::encode_error_frame(self.encoding, id, &error.body())
            }
        };
        self.push(frame, Kind::Reply);
    }

    /// Says goodbye, at a tick of the shard. What waits is written first, and the client has a moment to answer.
    pub fn close(&mut self, reason: CloseReason, text: &str, tick: u32) {
        if self.phase == Phase::Open {
            METRICS.closed(reason.code());
            self.outbox.push(websocket::close_frame(reason.code(), text), Kind::Reply);
            self.phase = Phase::Closing;
            self.deadlines.end_soon(tick);
            // What was read but not begun never will be.
            (self.backlog, self.waiting) = (VecDeque::new(), None);
            self.wake();
        }
    }

    /// Writes what the socket takes, at a tick of the shard. Answers how many bytes, and whether that was all; where it was not, the task
    /// of `cx` is woken when the socket takes more, or the connection is broken.
    pub fn flush(&mut self, tick: u32, cx: &mut Context<'_>) -> (u64, bool) {
        match self.outbox.flush(&mut self.socket, cx) {
            Ok(Flushed { bytes, all, moved }) => {
                self.speed.took(bytes);
                // What was full has room again: at the other end somebody reads. Nobody who takes a page slowly is silent.
                if moved && self.phase == Phase::Open {
                    self.heard_at = tick;
                }
                (bytes, all)
            }
            Err(_) => {
                self.break_off();
                (0, false)
            }
        }
    }

    /// The socket is broken. Where a close frame was sent or taken before, the connection has been counted by its code.
    pub fn break_off(&mut self) {
        if self.phase == Phase::Open {
            METRICS.closed(1006);
        }
        self.phase = Phase::Broken;
    }

    /// Keeps the outbox within its limit: what may be lost goes first, then what the log has. `false`: even the answers alone
    /// are too much.
    pub fn make_room(&mut self, bytes_max: usize) -> bool {
        if self.outbox.bytes() <= bytes_max {
            return true;
        }
        if !self.outbox.may_drop() {
            return false;
        }
        if self.outbox.drop_chunks(|kind| kind == Kind::Ephemeral) > 0 {
            METRICS.dropped_ephemeral.increment(1);
        }
        if self.outbox.bytes() <= bytes_max {
            return true;
        }
        let (subs, behind) = (&mut self.subs, &mut self.behind);
        let dropped = self.outbox.drop_chunks(|kind| {
            let Kind::Durable { sub, first } = kind else { return false };
            // A chunk of a subscription that has ended is of no use to anybody.
            let Some(sub) = subs.get_mut(sub) else { return true };
            sub.cursor = sub.cursor.min(first - 1);
            if !matches!(sub.state, SubState::Behind { .. }) {
                sub.state = SubState::Behind { until: 0 };
                METRICS.catch_ups.increment(1);
                *behind += 1;
            }
            true
        });
        if dropped > 0 {
            METRICS.dropped_durable.increment(1);
        }
        self.outbox.bytes() <= bytes_max
    }

    /// Whether the client waits for an answer.
    pub fn is_owed(&self) -> bool {
        self.busy
            || self.awaited > 0
            || !self.backlog.is_empty()
            || self.held.is_some()
            || self.waiting.is_some()
    }

    /// Whether a further command may be begun.
    pub fn may_begin(&self) -> bool {
        self.phase == Phase::Open
            && self.held.is_none()
            && self.waiting.is_none()
            && self.awaited < AWAITED_MAX
    }
}

/// How many commands of a connection may be under way at once.
pub(super) const AWAITED_MAX: u32 = 256;

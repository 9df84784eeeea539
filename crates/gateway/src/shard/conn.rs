//! A connection, as its shard holds it.

use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use starling_hub::{CommandError, Encoded, Reply, SocketId};
use starling_wire::protocol::CloseReason;
use starling_wire::websocket;

use super::chunks::Kind;
use super::client::Client;
use super::deadlines::Deadlines;
use super::early::EarlyEvents;
use super::framing::Framing;
use super::outbox::{Flushed, Outbox};
use super::pace::Pace;
use super::queue::CommandQueue;
use super::running::Running;
use super::settings::ShardSettings;
use super::socket::Socket;
use super::speed::Speed;
use super::subscriptions::Subscriptions;
use crate::metrics::METRICS;

/// A connection. Each of its parts has one duty, and its own rules.
pub(crate) struct Conn {
    /// Tells the connection from the others that had its place.
    pub(super) generation: u32,
    phase: Phase,
    pub(super) client: Client,
    pub(super) socket: Socket,
    pub(super) framing: Framing,
    pub(super) outbox: Outbox,
    pub(super) early: EarlyEvents,
    pub(super) queue: CommandQueue<Running>,
    pub(super) subs: Subscriptions,
    pub(super) pace: Pace,
    pub(super) deadlines: Deadlines,
    pub(super) speed: Speed,
    /// The connection's task, to be woken.
    waker: Option<Waker>,
    /// Whether the connection is in the list of marked ones, which are written to after the turn.
    dirty: bool,
}

/// The phases of a connection, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Frames go both ways.
    Open,
    /// A close frame was sent, and the client's is awaited.
    Closing,
    /// Both have sent a close frame, or the client's input can't be decoded any more: only what waits is still written.
    Closed,
    /// Everything is written, and the sending side is shut down. Input is discarded until the client ends its side, too: closing a
    /// socket over bytes that were not read resets the connection, and the client may never see the close frame.
    Ending,
    /// The socket is broken.
    Broken,
}

impl Conn {
    /// Creates a connection whose handshake is done.
    pub(super) fn new(
        generation: u32,
        client: Client,
        socket: Socket,
        framing: Framing,
        deadlines: Deadlines,
    ) -> Conn {
        Conn {
            generation,
            phase: Phase::Open,
            client,
            socket,
            framing,
            outbox: Outbox::default(),
            early: EarlyEvents::default(),
            queue: CommandQueue::default(),
            subs: Subscriptions::default(),
            pace: Pace::default(),
            deadlines,
            speed: Speed::default(),
            waker: None,
            dirty: false,
        }
    }

    /// Returns its key on this node.
    pub(super) fn id(&self, shard: u16, key: u32) -> SocketId {
        SocketId { shard, key, generation: self.generation }
    }

    /// Returns the connection's phase.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether frames go both ways.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Wakes the connection's task.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Sets the waker of the connection's task.
    pub(super) fn set_waker(&mut self, waker: &Waker) {
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// Marks the connection: adds its key to the list of those that are written to after the turn, unless it is there already.
    pub(super) fn mark(&mut self, key: u32, dirty: &mut Vec<u32>) {
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push(key);
        }
    }

    /// Queues a finished frame.
    pub(super) fn push(&mut self, frame: Bytes, kind: Kind) {
        if self.is_open() {
            let frame = self.framing.outgoing(frame);
            self.outbox.push(frame, kind);
        }
    }

    /// Queues an event. It does not overtake the answer to `connect`.
    pub(super) fn tell(&mut self, event: &Arc<Encoded>, kind: Kind) {
        if !self.early.hold(event, kind) {
            self.push(self.framing.event(event), kind);
        }
    }

    /// Queues the events that were held back: `connect` has been answered.
    pub(super) fn tell_early(&mut self) {
        for (event, kind) in self.early.release() {
            self.push(self.framing.event(&event), kind);
        }
    }

    /// Queues an answer.
    pub(super) fn reply(&mut self, id: u64, reply: &Result<Reply, CommandError>) {
        self.push(self.framing.reply(id, reply), Kind::Reply);
    }

    /// Closes the connection from this node's side. What waits is written first, and the client has a moment to answer. `tick`, here and
    /// below: the shard's current tick.
    pub(super) fn close(&mut self, reason: CloseReason, text: &str, tick: u32) {
        if self.is_open() {
            METRICS.closed(reason.code());
            self.outbox.push(websocket::close_frame(reason.code(), text), Kind::Reply);
            self.leave_open(Phase::Closing, tick);
            self.wake();
        }
    }

    /// Ends a connection whose input can't be decoded any more. The client's close frame is not awaited, since what follows can't be
    /// decoded, either.
    pub(super) fn fail(&mut self, reason: CloseReason, text: &str, tick: u32) {
        if self.is_open() {
            METRICS.closed(reason.code());
            self.outbox.push(websocket::close_frame(reason.code(), text), Kind::Reply);
        }
        self.leave_open(Phase::Closed, tick);
    }

    /// Handles the client's close frame, which may give a code. Returns `false` if it came too late to change anything.
    pub(super) fn take_close_frame(&mut self, code: Option<u16>) -> bool {
        match self.phase {
            Phase::Open => {
                METRICS.closed(code.unwrap_or(1005));
                self.outbox.push(websocket::close_reply(code), Kind::Reply);
            }
            // This node has sent its close frame before.
            Phase::Closing => {}
            Phase::Closed | Phase::Ending | Phase::Broken => return false,
        }
        self.phase = Phase::Closed;
        true
    }

    /// Enters [`Phase::Ending`]: everything is written and the sending side is shut down.
    pub(super) fn wait_for_end(&mut self, tick: u32) {
        self.phase = Phase::Ending;
        self.deadlines.end_soon(tick);
    }

    /// Enters [`Phase::Broken`].
    pub(super) fn break_off(&mut self) {
        // Where a close frame was sent or taken before, the connection has been counted by its code.
        if self.is_open() {
            METRICS.closed(1006);
        }
        self.phase = Phase::Broken;
    }

    fn leave_open(&mut self, phase: Phase, tick: u32) {
        self.phase = phase;
        self.deadlines.end_soon(tick);
        self.queue.abandon();
    }

    /// Writes as much as the socket accepts. Returns the number of bytes, and whether that was all. If it was not, the task of `cx` is
    /// woken when the socket accepts more, or the connection is broken.
    pub(super) fn flush(&mut self, tick: u32, cx: &mut Context<'_>) -> (u64, bool) {
        match self.outbox.flush(&mut self.socket, cx) {
            Ok(Flushed { bytes, all, moved }) => {
                self.speed.note_read(bytes);
                // A full socket has room again, so somebody reads at the other end: a client that takes a page slowly is not silent.
                if moved && self.is_open() {
                    self.deadlines.hear(tick);
                }
                (bytes, all)
            }
            Err(_) => {
                self.break_off();
                (0, false)
            }
        }
    }

    /// Writes as much as the socket accepts, for a connection that was marked. Wakes the connection's task if work is left. Returns the
    /// number of bytes written.
    pub(super) fn flush_marked(&mut self, tick: u32) -> u64 {
        self.dirty = false;
        let mut sent = 0;
        if self.phase != Phase::Broken && !self.outbox.is_empty() {
            let (bytes, all) = self.flush(tick, &mut Context::from_waker(Waker::noop()));
            sent = bytes;
            if !all {
                // The task polls the socket again, and so registers itself.
                self.wake();
            }
        }
        if self.subs.any_behind() {
            self.wake();
        }
        sent
    }

    /// Keeps the outbox within its limits. Closes the connection if that is not possible.
    pub(super) fn bound(&mut self, settings: &ShardSettings, tick: u32) {
        if self.make_room(settings.outbox_bytes_soft()) || self.outbox.bytes() <= settings.outbox_bytes_hard()
        {
            return;
        }
        METRICS.overloaded.increment(1);
        // What waits is dropped, so that at least the close frame arrives if the client reads again. Otherwise the heartbeat ends the
        // connection.
        self.outbox.drop_chunks(|_| true);
        self.close(CloseReason::Overloaded, "too far behind to be served", tick);
    }

    /// Drops from the outbox what may be lost, then what the log has, until it holds no more than `bytes_max`. Returns `false` if the
    /// answers alone are more than that.
    fn make_room(&mut self, bytes_max: usize) -> bool {
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
        let subs = &mut self.subs;
        let dropped = self.outbox.drop_chunks(|kind| {
            let Kind::Durable { sub, first } = kind else { return false };
            subs.rewind(sub, first);
            true
        });
        if dropped > 0 {
            METRICS.dropped_durable.increment(1);
        }
        self.outbox.bytes() <= bytes_max
    }
}

//! A connection's task: reads, begins commands, serves from the log, writes what the socket did not take at once.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::catch_up::{Reading, Unreadable};
use super::commands::Running;
use super::conn::Phase;
use super::{Service, Shard, Table};
use crate::metrics::METRICS;

/// How many reads one poll makes before other connections get their turn.
const READS_PER_POLL: usize = 4;

/// A connection's task.
pub(crate) struct ConnTask {
    pub(super) shard: Rc<Shard>,
    pub(super) key: u32,
    /// The command that is under way, if it keeps others waiting.
    pub(super) running: Option<Running>,
    /// The log that is being read for one of the subscriptions.
    pub(super) reading: Option<Reading>,
    /// The subscription that was served from the log last: they take turns.
    pub(super) served: usize,
    /// Set while the log can't be read.
    pub(super) unreadable: Option<Box<Unreadable>>,
    /// Until when not to read, to keep the connection's rate of bytes.
    pub(super) paused: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What came but is not yet decoded: with the handshake, or in a read that was more than the backlog takes.
    pub(super) unread: BytesMut,
    /// The client's close frame, which is acted on when what came before it has been begun.
    pub(super) goodbye: Option<Goodbye>,
}

/// What the client's close frame said: its code, if it gave one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goodbye(pub(super) Option<u16>);

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

impl ConnTask {
    /// A task for a connection that its shard holds under `key`; `early` is what came with the handshake.
    pub fn new(shard: Rc<Shard>, key: u32, early: Bytes) -> ConnTask {
        ConnTask {
            shard,
            key,
            running: None,
            reading: None,
            served: 0,
            unreadable: None,
            paused: None,
            unread: early.into(),
            goodbye: None,
        }
    }
}

impl Future for ConnTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let shard = this.shard.clone();
        let mut table = shard.table.borrow_mut();
        if this.step(&mut table, cx) {
            return Poll::Pending;
        }
        let conn = table.remove(this.key);
        drop(table);
        if let (Service::Hub(hub), Some(conn)) = (&shard.service, conn) {
            hub.gauges().connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            METRICS.connections.decrement(1.0);
            if let Some(session) = &conn.session {
                hub.dropped(session);
            }
        }
        Poll::Ready(())
    }
}

impl ConnTask {
    /// Does all that can be done now. `false`: the connection is over.
    fn step(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        {
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
            if conn.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                conn.waker = Some(cx.waker().clone());
            }
        }
        let (mut reads, tick) = (0, table.tick);
        loop {
            let mut more = self.poll_running(table, cx);
            more |= self.begin_commands(table);
            more |= self.take_goodbye(table);
            more |= self.serve_from_log(table, cx);
            let read = self.read(table, cx);
            reads += usize::from(read);
            more |= read;
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
            conn.busy = self.running.is_some();
            if conn.phase != Phase::Broken {
                let (bytes, _) = conn.flush(tick, cx);
                METRICS.bytes_sent.increment(bytes);
                // There is room again for what waited for it.
                more |= bytes > 0 && (conn.behind > 0 || !conn.backlog.is_empty());
            }
            match conn.phase {
                Phase::Broken => return false,
                Phase::Closed if conn.outbox.is_empty() => match conn.socket.poll_shutdown(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Err(_)) => return false,
                    Poll::Ready(Ok(())) => {
                        conn.phase = Phase::Ending;
                        conn.deadlines.end_soon(tick);
                    }
                },
                _ if !more => return true,
                _ if reads >= READS_PER_POLL => {
                    // The socket may hold more, and it wakes only those whom it had nothing for.
                    cx.waker().wake_by_ref();
                    return true;
                }
                _ => {}
            }
        }
    }
}

//! A connection's task: reads, begins commands, serves from the log, writes what the socket did not take at once.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::catch_up::CatchUp;
use super::conn::{Conn, Phase};
use super::opening::Opening;
use super::reading::Reader;
use super::settings::{Env, Service};
use super::step::Step;
use super::table::Shard;
use crate::metrics::METRICS;

/// Number of reads that one poll makes before other connections get their turn.
const READS_PER_POLL: usize = 4;

/// A connection's task.
pub(crate) struct ConnTask {
    shard: Rc<Shard>,
    /// The connection's place in the shard's table.
    key: u32,
    reader: Reader,
    catch_up: CatchUp,
}

impl ConnTask {
    /// Enters a connection into its shard. Returns its task, which is to be spawned.
    pub fn open(shard: Rc<Shard>, opening: Opening) -> ConnTask {
        let (key, reader) = opening.enter(&shard);
        ConnTask { shard, key, reader, catch_up: CatchUp::default() }
    }

    /// Reads, runs commands, serves from the log and writes until nothing more can be done now. Returns `false` if the connection is over.
    fn go_on(reader: &mut Reader, catch_up: &mut CatchUp, step: &mut Step<'_>, cx: &mut Context<'_>) -> bool {
        let tick = step.table.tick;
        let Some(conn) = step.conn() else { return false };
        conn.set_waker(cx.waker());
        let mut reads = 0;
        loop {
            let mut more = step.poll_running(cx);
            more |= step.begin_commands();
            more |= reader.take_close_frame(step);
            more |= catch_up.serve(step, cx);
            let read = reader.read(step, cx);
            reads += usize::from(read);
            more |= read;
            let Some(conn) = step.conn() else { return false };
            more |= write(conn, tick, cx);
            match conn.phase() {
                Phase::Broken => return false,
                Phase::Closed if conn.outbox.is_empty() => match conn.socket.poll_shutdown(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Err(_)) => return false,
                    Poll::Ready(Ok(())) => conn.wait_for_end(tick),
                },
                _ if !more => return true,
                _ if reads >= READS_PER_POLL => {
                    // The socket may hold more, and it wakes only a task that it had nothing for.
                    cx.waker().wake_by_ref();
                    return true;
                }
                _ => {}
            }
        }
    }
}

impl Future for ConnTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ConnTask { shard, key, reader, catch_up } = self.get_mut();
        let mut table = shard.table.borrow_mut();
        let mut step = Step { env: &shard.env, table: &mut table, key: *key };
        if ConnTask::go_on(reader, catch_up, &mut step, cx) {
            return Poll::Pending;
        }
        let conn = table.remove(*key);
        drop(table);
        if let Some(conn) = conn {
            is_over(&conn, &shard.env);
        }
        Poll::Ready(())
    }
}

/// Writes what the socket takes. Returns whether there is room again for what waited for it.
fn write(conn: &mut Conn, tick: u32, cx: &mut Context<'_>) -> bool {
    if conn.phase() == Phase::Broken {
        return false;
    }
    let (bytes, _) = conn.flush(tick, cx);
    METRICS.bytes_sent.increment(bytes);
    bytes > 0 && (conn.subs.any_behind() || conn.queue.has_backlog())
}

/// Counts a connection out that is over, and tells the hub.
fn is_over(conn: &Conn, env: &Env) {
    let Service::Hub(hub) = &env.service else { return };
    hub.gauges().connections.fetch_sub(1, Ordering::Relaxed);
    METRICS.connections.decrement(1.0);
    if let Some(session) = conn.client.session() {
        hub.dropped(session);
    }
}

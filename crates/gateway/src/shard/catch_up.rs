//! Serving subscriptions that are behind from the log, at the pace of their socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use starling_hub::{CommandError, Hub, LogPage, Room};
use starling_wire::protocol::CloseReason;
use tokio::time::Instant;

use super::conn::{Phase, SubState};
use super::outbox::Kind;
use super::task::{Boxed, ConnTask};
use super::{Service, Table};
use crate::metrics::METRICS;

/// How long a socket waits before it tries again to read the log, at first and at most. In between it doubles.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// For how long a socket waits for a log that can't be read. After that another node may be able to: this one alone may have lost
/// the database.
const UNREADABLE_MAX: Duration = Duration::from_secs(120);

/// A read of the log that is under way for one of a connection's subscriptions.
pub(super) struct Reading {
    sub: usize,
    room: Arc<Room>,
    cursor: u64,
    future: Boxed<Result<LogPage, CommandError>>,
}

/// The log can't be read.
pub(super) struct Unreadable {
    since: Instant,
    failures: u32,
}

impl Unreadable {
    fn begin() -> Box<Unreadable> {
        Box::new(Unreadable { since: Instant::now(), failures: 0 })
    }

    /// When to try again: later each time, and not when all others do.
    fn wait(&self, random: &mut SmallRng) -> Duration {
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(RETRY_MAX).mul_f64(random.random_range(0.5..1.0))
    }
}

impl ConnTask {
    /// Serves subscriptions that are behind from the log, a page at a time, as fast as the socket takes it.
    pub(super) fn serve_from_log(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        if self.is_connecting() {
            // The answer to `connect` comes first.
            return false;
        }
        let Service::Hub(hub) = self.shard.service.clone() else { return false };
        let mut any = false;
        loop {
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(page) = reading.future.as_mut().poll(cx) else { return any };
                if let Some(reading) = self.reading.take() {
                    self.take_page(table, &reading, page);
                }
                any = true;
            }
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return any };
            if conn.behind == 0 || conn.phase != Phase::Open {
                return any;
            }
            if conn.outbox.bytes() > self.shard.settings.outbox_bytes_soft / 4 {
                return any;
            }
            let Some(sub) = table.next_behind(self.key, self.served) else { return any };
            self.served = sub;
            self.reading = self.start_reading(table, sub, &hub);
            if self.reading.is_none() {
                return any;
            }
        }
    }

    fn start_reading(&self, table: &mut Table, sub: usize, hub: &Arc<Hub>) -> Option<Reading> {
        let wait = self.unreadable.as_ref().map(|unreadable| unreadable.wait(&mut table.random));
        let conn = table.conns.get(self.key as usize)?;
        let (subscription, reader) = (conn.subs.get(sub)?, conn.session.as_ref()?.user.clone());
        let (room, cursor) = (subscription.log.clone()?, subscription.cursor);
        let (hub, log) = (hub.clone(), room.clone());
        let future = Box::pin(async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            hub.read_log(&log, &reader, cursor).await
        });
        Some(Reading { sub, room, cursor, future })
    }

    fn take_page(&mut self, table: &mut Table, reading: &Reading, page: Result<LogPage, CommandError>) {
        let Ok(page) = page else {
            let unreadable = self.unreadable.get_or_insert_with(Unreadable::begin);
            unreadable.failures += 1;
            if unreadable.since.elapsed() >= UNREADABLE_MAX {
                // The client has been promised these messages: on another connection it gets them.
                let words = "the log is not available; reconnect with resume";
                table.close(self.key, CloseReason::Restart, words);
            }
            return;
        };
        self.unreadable = None;
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        let Some(sub) = conn.subs.get_mut(reading.sub) else { return };
        let is_same = sub.log.as_ref().is_some_and(|log| Arc::ptr_eq(log, &reading.room));
        let SubState::Behind { until } = sub.state else { return };
        if !is_same || sub.cursor != reading.cursor {
            // Left, or joined afresh, meanwhile.
            return;
        }
        METRICS.catch_up_pages.increment(1);
        let Some((last, _)) = page.last() else {
            // The log is shorter than what was handed out: the conversation is gone. Nothing more will come.
            let delivered = table.rooms.get(&reading.room.id).map_or(0, |room| room.delivered);
            sub.cursor = sub.cursor.max(delivered).max(until);
            return;
        };
        sub.cursor = *last;
        for (seq, event) in page.iter() {
            let frame = event.frame(conn.encoding).clone();
            conn.push(frame, Kind::Durable { sub: reading.sub, first: *seq });
        }
        let delivered = page.len() as u64;
        METRICS.deliveries.increment(delivered);
        if let Some(gauges) = self.shard.gauges() {
            gauges.deliveries.fetch_add(delivered, Ordering::Relaxed);
        }
    }
}

//! Serving subscriptions that are behind from the log, at the pace of their socket.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use starling_hub::{CommandError, Hub, LogPage};
use starling_model::Seq;
use starling_wire::protocol::CloseReason;
use tokio::time::Instant;

use super::chunks::Kind;
use super::settings::Service;
use super::step::Step;
use super::subscriptions::NeededPage;
use super::table::Table;
use crate::metrics::METRICS;

/// How long a connection waits before it tries again to read the log, the first time. The wait doubles each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long a connection waits for a log that can't be read. Then it is closed, since another node may be able to read it: this one alone
/// may have lost the database.
const UNREADABLE_MAX: Duration = Duration::from_secs(120);

/// Reads the log for those subscriptions of a connection that are behind, one page at a time.
#[derive(Default)]
pub(super) struct CatchUp {
    /// Boxed, as is the other part: almost every connection has neither at almost all times.
    reading: Option<Box<Reading>>,
    /// Set while the log can't be read.
    unreadable: Option<Box<Unreadable>>,
}

/// A read of the log that is under way.
struct Reading {
    needed: NeededPage,
    future: Pin<Box<dyn Future<Output = Result<LogPage, CommandError>>>>,
}

/// A log that can't be read.
struct Unreadable {
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

impl CatchUp {
    /// Reads and queues pages as fast as the socket takes them. Returns whether any was queued.
    pub fn serve(&mut self, step: &mut Step<'_>, cx: &mut Context<'_>) -> bool {
        let Service::Hub(hub) = &step.env.service else { return false };
        let outbox_bytes_max = step.env.settings.outbox_bytes_soft() / 4;
        let mut any = false;
        loop {
            // The answer to `connect` comes first.
            if step.conn().is_none_or(|conn| conn.early.is_holding()) {
                return any;
            }
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(page) = reading.future.as_mut().poll(cx) else { return any };
                if let Some(reading) = self.reading.take() {
                    self.take_page(step, &reading.needed, page);
                }
                any = true;
            }
            let Some(conn) = step.conn() else { return any };
            if !conn.subs.any_behind() || !conn.is_open() || conn.outbox.bytes() > outbox_bytes_max {
                return any;
            }
            self.reading = self.start_reading(step, hub);
            if self.reading.is_none() {
                return any;
            }
        }
    }

    fn start_reading(&self, step: &mut Step<'_>, hub: &Arc<Hub>) -> Option<Box<Reading>> {
        let Table { conns, channels, random, .. } = &mut *step.table;
        let conn = conns.get_mut(step.key as usize)?;
        let needed =
            conn.subs.next_page(|channel| channels.get(&channel).map_or(0, |channel| channel.delivered))?;
        let wait = self.unreadable.as_ref().map(|unreadable| unreadable.wait(random));
        let reader = conn.client.session()?.user.clone();
        let (hub, room, after) = (hub.clone(), needed.room.clone(), Seq::new(needed.after));
        let future = Box::pin(async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            hub.read_log(&room, &reader, after).await
        });
        Some(Box::new(Reading { needed, future }))
    }

    fn take_page(&mut self, step: &mut Step<'_>, needed: &NeededPage, page: Result<LogPage, CommandError>) {
        let Ok(page) = page else { return self.failed(step) };
        self.unreadable = None;
        let last = page.last().map(|(seq, _)| seq.get());
        let Some(conn) = step.conn() else { return };
        let Some(sub) = conn.subs.get_mut(needed.sub) else { return };
        if !sub.take_page(&needed.room, needed.after, last) {
            return;
        }
        METRICS.catch_up_pages.increment(1);
        for (seq, event) in page.iter() {
            conn.push(conn.framing.event(event), Kind::Durable { sub: needed.sub, first: seq.get() });
        }
        let count = page.len() as u64;
        METRICS.deliveries.increment(count);
        if let Some(gauges) = step.env.gauges() {
            gauges.deliveries.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Handles a log that could not be read. After a while the connection is closed.
    fn failed(&mut self, step: &mut Step<'_>) {
        let unreadable = self.unreadable.get_or_insert_with(Unreadable::begin);
        unreadable.failures += 1;
        if unreadable.since.elapsed() >= UNREADABLE_MAX {
            // The client has been promised these messages: on another connection it gets them.
            let text = "the log is not available; reconnect with resume";
            step.table.close(step.key, CloseReason::Restart, text);
        }
    }
}

//! Asking connections to go to other nodes: all of them when the node drains, some of them when it holds too many, each when it
//! is old.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use starling_hub::{Encoded, OwnedEvent};
use starling_wire::protocol::CloseReason;
use tokio::time::Instant;

use super::conn::{Conn, Phase};
use super::outbox::Kind;
use super::{Shard, Table};
use crate::metrics::METRICS;

/// Over how long connections are spread that are asked to go, apart from a drain.
const SPREAD: Duration = Duration::from_secs(10);
/// How long they have, seconds, before they are closed: not all of them equally long, or they would all come back at once.
const LEAVING_SECONDS: std::ops::RangeInclusive<u32> = 20..=40;
/// When, in parts of a drain's time, those are closed that did not go by themselves.
const CLOSING: std::ops::Range<f64> = 0.6..0.9;
/// When, in parts of a drain's time, all are closed that are still there.
const LAST: f64 = 0.92;

/// How many connections of a node were asked to go to other nodes, apart from a drain, and are still here.
#[derive(Debug, Default)]
pub(crate) struct Asked(AtomicU64);

/// Counts a connection that was asked to go, for as long as it lives.
pub(crate) struct AskedGuard(Arc<Asked>);

impl Asked {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> AskedGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        AskedGuard(self.clone())
    }
}

impl Drop for AskedGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainPlan {
    /// How long the drain may still take.
    pub limit: Duration,
    /// Over how long clients are spread that follow `draining`.
    pub spread: Duration,
}

impl DrainPlan {
    /// A drain that the rest of the fleet can take: each other node is sent so many clients a second, as far as the time allows.
    pub fn new(limit: Duration, connections: u64, others: usize, clients_per_second: u32) -> DrainPlan {
        let rate = f64::from(clients_per_second.max(1)) * others.max(1) as f64;
        let spread = Duration::from_secs_f64(connections as f64 / rate).min(limit / 2);
        DrainPlan { limit, spread }
    }
}

/// Tells every connection when to come back elsewhere, and closes in random order, before the end, those that are still there.
pub(super) async fn drain(shard: Rc<Shard>, plan: DrainPlan) {
    let began = Instant::now();
    let mut leaving: Vec<(Duration, u32, u32)> = Vec::new();
    {
        let mut table = shard.table.borrow_mut();
        for key in table.keys() {
            let Table { conns, random, .. } = &mut *table;
            let Some(conn) = conns.get_mut(key as usize) else { continue };
            tell(conn, plan.spread, random);
            leaving.push((plan.limit.mul_f64(random.random_range(CLOSING)), key, conn.generation));
            table.mark(key);
        }
        table.flush_dirty();
    }
    leaving.sort_unstable_by_key(|(at, ..)| *at);
    for (at, key, generation) in leaving {
        tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
        let mut table = shard.table.borrow_mut();
        // Who waits for an answer gets it first, and is closed with the last.
        let goes =
            |conn: &Conn| conn.generation == generation && conn.awaited == 0 && conn.backlog.is_empty();
        if table.conns.get(key as usize).is_some_and(goes) {
            table.close(key, CloseReason::Restart, "restarting; reconnect with resume");
            table.flush_dirty();
        }
    }
    tokio::time::sleep(plan.limit.mul_f64(LAST).saturating_sub(began.elapsed())).await;
    let mut table = shard.table.borrow_mut();
    for key in table.keys() {
        table.close(key, CloseReason::Restart, "restarting; reconnect with resume");
    }
    table.flush_dirty();
}

impl Table {
    /// Asks a connection to go to another node. If it does not, it is closed.
    pub fn ask_to_leave(&mut self, key: u32, generation: u32) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if conn.generation != generation || conn.phase != Phase::Open || conn.asked.is_some() {
            return;
        }
        METRICS.moved.increment(1);
        conn.asked = Some(self.asked.enter());
        tell(conn, SPREAD, &mut self.random);
        let closed = self.random.random_range(LEAVING_SECONDS);
        conn.deadlines.leave_by(self.tick.saturating_add(closed));
        self.mark(key);
    }

    /// Asks some connections to go to other nodes, whichever have not been asked yet.
    pub(super) fn shed(&mut self, count: usize) {
        let stays = |conn: &Conn| conn.phase == Phase::Open && conn.session.is_some() && conn.asked.is_none();
        let open = self.conns.iter().filter(|(_, conn)| stays(conn));
        let chosen: Vec<(usize, u32)> =
            open.map(|(key, conn)| (key, conn.generation)).choose_multiple(&mut self.random, count);
        for (key, generation) in chosen {
            self.ask_to_leave(u32::try_from(key).unwrap_or(u32::MAX), generation);
        }
        self.flush_dirty();
    }

    fn keys(&self) -> Vec<u32> {
        self.conns.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect()
    }
}

fn tell(conn: &mut Conn, spread: Duration, random: &mut SmallRng) {
    let told = spread.mul_f64(random.random_range(0.0..1.0));
    let event = OwnedEvent::Draining { reconnect_after_ms: u64::try_from(told.as_millis()).unwrap_or(0) };
    conn.tell(&Arc::new(Encoded::new(event)), Kind::Reply);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{connect, session, shard_with};
    use super::*;

    #[tokio::test]
    async fn those_who_do_not_go_are_asked_once_and_closed_one_by_one() {
        const COUNT: usize = 400;
        // Nobody is closed for being silent.
        let shard =
            shard_with(|settings| (settings.heartbeat_s, settings.connect_timeout_s) = (1_000, 1_000));
        let held: Vec<_> = (0..COUNT).map(|_| connect(&shard)).collect();
        let mut table = shard.table.borrow_mut();
        for (key, _) in &held {
            table.conns[*key as usize].session = Some(session());
        }
        for asked in [COUNT / 2, COUNT, COUNT] {
            table.shed(COUNT / 2);
            assert_eq!(shard.settings.asked.count(), asked as u64, "nobody is asked twice");
        }
        let open = |table: &Table| table.conns.iter().filter(|(_, conn)| conn.phase == Phase::Open).count();
        let mut closed_at_once = 0;
        for second in 1..=*LEAVING_SECONDS.end() {
            let before = open(&table);
            table.on_tick(&shard.settings);
            if second < *LEAVING_SECONDS.start() {
                assert_eq!(open(&table), COUNT, "after {second} s");
            }
            closed_at_once = closed_at_once.max(before - open(&table));
        }
        assert_eq!(open(&table), 0);
        assert!(closed_at_once < COUNT / 4, "{closed_at_once} in one second");
        for key in table.keys() {
            table.remove(key);
        }
        assert_eq!(shard.settings.asked.count(), 0);
    }

    #[test]
    fn clients_are_spread_as_the_other_nodes_can_take_them_and_over_half_of_the_time_at_most() {
        let spread = |connections, others| {
            DrainPlan::new(Duration::from_secs(30), connections, others, 500).spread.as_millis()
        };
        assert_eq!(spread(0, 2), 0);
        assert_eq!(spread(1_000, 2), 1_000);
        assert_eq!(spread(10_000, 4), 5_000);
        assert_eq!(spread(1_000_000, 2), 15_000);
        assert_eq!(spread(1_000, 0), 2_000, "alone, it will be back itself");
    }
}

//! A shard's timers: one tick a second for all connections, instead of a timer for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::Rng;
use rand::rngs::SmallRng;
use starling_hub::clock;
use starling_wire::protocol::CloseReason;
use starling_wire::websocket;

use super::conn::Phase;
use super::outbox::Kind;
use super::{ShardSettings, Table};
use crate::metrics::METRICS;

/// How long the client's close frame is awaited, seconds.
pub(super) const CLOSE_SECONDS: u32 = 3;

/// A connection, by its place and generation.
type Entry = (u32, u32);

/// A shard's timers.
pub(super) struct Timers {
    /// Connections to be pinged, by the second of the heartbeat in which that happens.
    wheel: Vec<Vec<Entry>>,
    /// Connections from which nothing came for so long that they are gone before they would be pinged next, by when that is. Each is
    /// here at most once: it is entered with a ping, and taken out before the next.
    silent: BinaryHeap<Reverse<(u32, Entry)>>,
    /// Connections that have not said `connect` yet, by deadline: all have the same time, so the order is that of arrival.
    connects: VecDeque<(u32, Entry)>,
    /// Connections that said goodbye.
    closing: VecDeque<(u32, Entry)>,
    /// Connections that are as old as they may get.
    ages: BinaryHeap<Reverse<(u32, Entry)>>,
    /// Connections that were asked to go elsewhere, and are closed if they have not by then.
    leaving: BinaryHeap<Reverse<(u32, Entry)>>,
    /// When tokens end, Unix seconds.
    expiries: BinaryHeap<Reverse<(i64, Entry)>>,
}

impl Timers {
    pub fn new(heartbeat_s: u32) -> Timers {
        Timers {
            wheel: vec![Vec::new(); heartbeat_s.max(1) as usize],
            silent: BinaryHeap::new(),
            connects: VecDeque::new(),
            closing: VecDeque::new(),
            ages: BinaryHeap::new(),
            leaving: BinaryHeap::new(),
            expiries: BinaryHeap::new(),
        }
    }

    pub fn enter(
        &mut self,
        (key, generation): Entry,
        tick: u32,
        settings: &ShardSettings,
        random: &mut SmallRng,
    ) {
        let slots = self.wheel.len();
        self.wheel[tick as usize % slots].push((key, generation));
        // The second that has begun is not counted: nobody gets less than the time that was promised.
        self.connects.push_back((tick + settings.connect_timeout_s + 1, (key, generation)));
        if settings.max_age_s > 0 {
            // Those who came together, after a deploy, must not all go together.
            let age = f64::from(settings.max_age_s) * random.random_range(0.8..1.0);
            self.ages.push(Reverse((tick.saturating_add(age as u32), (key, generation))));
        }
    }

    pub fn leaving(&mut self, until: u32, key: u32, generation: u32) {
        self.leaving.push(Reverse((until, (key, generation))));
    }

    pub fn closing(&mut self, until: u32, key: u32, generation: u32) {
        self.closing.push_back((until, (key, generation)));
    }

    fn expires(&mut self, at_s: i64, key: u32, generation: u32) {
        self.expiries.push(Reverse((at_s, (key, generation))));
    }
}

impl Table {
    /// Has a connection closed when its token ends, unless it has a newer one by then.
    pub fn expires(&mut self, at_ms: i64, key: u32, generation: u32) {
        let at_s = at_ms.div_euclid(1_000);
        let conn = self.conns.get_mut(key as usize).filter(|conn| conn.generation == generation);
        // One entry is enough, the earliest: it is looked at then, and entered anew if the token holds longer.
        if let Some(conn) = conn.filter(|conn| at_s < conn.expiry_due_s) {
            conn.expiry_due_s = at_s;
            self.timers.expires(at_s, key, generation);
        }
    }

    pub(super) fn on_tick(&mut self, settings: &ShardSettings) {
        self.tick = self.tick.wrapping_add(1);
        self.ping(settings);
        self.end_silent(settings);
        self.end_connects();
        self.end_closing();
        self.end_ages();
        self.end_leaving();
        self.end_tokens();
        self.flush_dirty();
        let queued = self.conns.iter().map(|(_, conn)| conn.outbox.bytes()).sum::<usize>();
        METRICS.queue_bytes.increment(queued as f64 - self.queued as f64);
        self.queued = queued;
    }

    fn ping(&mut self, settings: &ShardSettings) {
        let slot = self.tick as usize % self.timers.wheel.len();
        let mut entries = std::mem::take(&mut self.timers.wheel[slot]);
        entries.retain(|(key, generation)| {
            let Some(conn) = self.conns.get_mut(*key as usize).filter(|conn| conn.generation == *generation)
            else {
                return false;
            };
            let ended = matches!(conn.phase, Phase::Closing { until } if until <= self.tick);
            let gone_at = gone_at(conn.heard_at, settings);
            if ended || gone_at <= self.tick {
                conn.break_off();
                conn.wake();
                return false;
            }
            if gone_at < self.tick.saturating_add(settings.heartbeat_s) {
                self.timers.silent.push(Reverse((gone_at, (*key, *generation))));
            }
            if conn.phase == Phase::Open {
                conn.outbox.push(websocket::ping_frame(), Kind::Reply);
                if !conn.dirty {
                    conn.dirty = true;
                    self.dirty.push(*key);
                }
            }
            true
        });
        // Connections that came meanwhile can't be: this is one thread.
        self.timers.wheel[slot] = entries;
    }

    fn end_silent(&mut self, settings: &ShardSettings) {
        while let Some(Reverse((due, (key, generation)))) = self.timers.silent.peek().copied() {
            if due > self.tick {
                return;
            }
            self.timers.silent.pop();
            let conn = self.conns.get_mut(key as usize).filter(|conn| conn.generation == generation);
            if let Some(conn) = conn.filter(|conn| gone_at(conn.heard_at, settings) <= self.tick) {
                conn.break_off();
                conn.wake();
            }
        }
    }

    fn end_connects(&mut self) {
        while let Some((_, (key, generation))) =
            self.timers.connects.pop_front_if(|(due, _)| *due <= self.tick)
        {
            let waits = |conn: &super::Conn| conn.generation == generation && conn.session.is_none();
            if self.conns.get(key as usize).is_some_and(waits) {
                self.close(key, CloseReason::ConnectTimeout, "no connect in time");
            }
        }
    }

    fn end_closing(&mut self) {
        while let Some((_, (key, generation))) =
            self.timers.closing.pop_front_if(|(due, _)| *due <= self.tick)
        {
            if let Some(conn) = self.conns.get_mut(key as usize).filter(|conn| conn.generation == generation)
            {
                conn.break_off();
                conn.wake();
            }
        }
    }

    fn end_ages(&mut self) {
        while let Some(Reverse((due, (key, generation)))) = self.timers.ages.peek().copied() {
            if due > self.tick {
                return;
            }
            self.timers.ages.pop();
            self.ask_to_leave(key, generation);
        }
    }

    fn end_leaving(&mut self) {
        while let Some(Reverse((due, (key, generation)))) = self.timers.leaving.peek().copied() {
            if due > self.tick {
                return;
            }
            self.timers.leaving.pop();
            if self.conns.get(key as usize).is_some_and(|conn| conn.generation == generation) {
                self.close(key, CloseReason::Restart, "moving to another node; reconnect with resume");
            }
        }
    }

    fn end_tokens(&mut self) {
        let now_ms = clock::now_ms();
        let now_s = now_ms.div_euclid(1_000);
        while let Some(Reverse((at, (key, generation)))) = self.timers.expiries.peek().copied() {
            if at > now_s {
                return;
            }
            self.timers.expiries.pop();
            let conn = self.conns.get_mut(key as usize).filter(|conn| conn.generation == generation);
            // An entry that an earlier one has overtaken is of no more use.
            let Some(conn) = conn.filter(|conn| conn.expiry_due_s == at) else { continue };
            conn.expiry_due_s = i64::MAX;
            let Some(session) = &conn.session else { continue };
            let until = session.expires_at_ms();
            if until > now_ms {
                // Refreshed, or within this second: looked at again.
                self.expires(until.max(now_ms + 1_000), key, generation);
            } else {
                self.close(key, CloseReason::Unauthorized, "the token has expired");
            }
        }
    }
}

/// When a peer is gone that was last heard at a tick: two heartbeats later. The second in which it was heard is not counted, so that
/// nobody gets less than was promised.
fn gone_at(heard_at: u32, settings: &ShardSettings) -> u32 {
    heard_at.saturating_add(settings.heartbeat_s.saturating_mul(2)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    /// Ticks from the last that was heard to the end.
    fn outlives(heartbeat_s: u32, heard_for: u32) -> u32 {
        let shard = fixture::shard_with(|settings| settings.heartbeat_s = heartbeat_s);
        let (key, _near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.conns[key as usize].session = Some(fixture::session());
        for _ in 0..heard_for {
            table.on_tick(&shard.settings);
            table.conns[key as usize].heard_at = table.tick;
        }
        let mut ticks = 0;
        while table.conns[key as usize].phase == Phase::Open {
            table.on_tick(&shard.settings);
            ticks += 1;
            assert!(ticks <= 10 * heartbeat_s, "it is never gone");
        }
        ticks
    }

    #[test]
    fn a_silent_peer_is_gone_after_two_heartbeats_whenever_it_was_heard_last() {
        for heartbeat_s in [1, 2, 25] {
            for heard_for in 0..3 * heartbeat_s {
                let ticks = outlives(heartbeat_s, heard_for);
                assert_eq!(ticks, 2 * heartbeat_s + 1, "heard for {heard_for} s, then silent");
            }
        }
    }

    #[test]
    fn who_answers_each_ping_stays_and_costs_no_second_timer() {
        let shard = fixture::shard_with(|settings| settings.heartbeat_s = 5);
        let (key, _near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.conns[key as usize].session = Some(fixture::session());
        for tick in 1..=100 {
            table.on_tick(&shard.settings);
            if tick % 5 == 0 {
                table.conns[key as usize].heard_at = table.tick;
            }
            assert!(table.timers.silent.is_empty());
        }
        assert_eq!(table.conns[key as usize].phase, Phase::Open);
    }
}

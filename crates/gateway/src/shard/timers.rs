//! A shard's timers: once a second the shard looks at each of its connections.
//!
//! Whatever becomes due is a field of the connection. So nothing here outlives a socket, and a new time replaces the one before it: a
//! client that refreshes its token a thousand times costs no more than one that never does.

use rand::Rng;
use rand::rngs::SmallRng;
use starling_hub::clock;
use starling_wire::protocol::CloseReason;
use starling_wire::websocket;

use super::conn::{Conn, Phase};
use super::{ShardSettings, Table};
use crate::metrics::METRICS;

/// How long a connection lives on after this node has said its last word, seconds: the client's close frame, or its end of the socket,
/// is awaited for so long.
pub(super) const CLOSE_SECONDS: u32 = 3;

/// A tick that never comes.
const NEVER: u32 = u32::MAX;

/// When something becomes due for a connection: ticks of the shard, unless another unit is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// It is pinged.
    ping: u32,
    /// It must have said `connect`.
    connect: u32,
    /// It is as old as it may get, and its client is asked to move to another node.
    age: u32,
    /// It is over, whether the client has taken the close frame or not.
    close: u32,
    /// Its token ends, Unix milliseconds.
    token_ms: i64,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines { ping: NEVER, connect: NEVER, age: NEVER, close: NEVER, token_ms: i64::MAX }
    }
}

impl Deadlines {
    /// Those of a connection that has just been opened.
    pub fn begin(tick: u32, settings: &ShardSettings, random: &mut SmallRng) -> Deadlines {
        Deadlines {
            ping: tick.saturating_add(settings.heartbeat_s),
            // The second that has begun is not counted: nobody gets less than the time that was promised.
            connect: tick.saturating_add(settings.connect_timeout_s).saturating_add(1),
            age: comes_of_age(tick, settings, random),
            ..Deadlines::default()
        }
    }

    /// Ends the connection soon after `now`, a tick. An earlier end stays.
    pub fn end_soon(&mut self, now: u32) {
        self.close = self.close.min(now.saturating_add(CLOSE_SECONDS));
    }

    /// Has the connection closed when its token ends. Replaces the time of an earlier token.
    pub fn token_ends(&mut self, at_ms: i64) {
        self.token_ms = at_ms;
    }

    fn any_due(&self, tick: u32, now_ms: i64) -> bool {
        let first = self.ping.min(self.connect).min(self.age).min(self.close);
        first <= tick || self.token_ms <= now_ms
    }
}

/// When a connection that is young at this tick is as old as it may get. Clients that came together, after a deploy, must not all move
/// together.
fn comes_of_age(tick: u32, settings: &ShardSettings, random: &mut SmallRng) -> u32 {
    match settings.max_age_s {
        0 => NEVER,
        max => tick.saturating_add(((f64::from(max) * random.random_range(0.8..1.0)) as u32).max(1)),
    }
}

impl Table {
    pub(super) fn on_tick(&mut self, settings: &ShardSettings) {
        self.tick = self.tick.wrapping_add(1);
        let (tick, now_ms) = (self.tick, clock::now_ms());
        let mut due = std::mem::take(&mut self.due);
        let mut queued = 0;
        for (key, conn) in &mut self.conns {
            queued += conn.outbox.bytes();
            if let Some(page_bytes) = conn.speed.tick(conn.outbox.is_stalled(), settings.heartbeat_s)
                && let Some(session) = &conn.session
            {
                session.set_page_bytes(page_bytes);
            }
            if conn.deadlines.any_due(tick, now_ms) || is_gone(conn, tick, settings) {
                due.push(u32::try_from(key).unwrap_or(u32::MAX));
            }
        }
        for key in due.drain(..) {
            self.attend(key, now_ms, settings);
        }
        self.due = due;
        self.flush_dirty();
        METRICS.queue_bytes.increment(queued as f64 - self.queued as f64);
        self.queued = queued;
    }

    /// Does what is due for a connection.
    fn attend(&mut self, key: u32, now_ms: i64, settings: &ShardSettings) {
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if conn.deadlines.close <= tick || is_gone(conn, tick, settings) {
            conn.break_off();
            conn.wake();
            return;
        }
        if conn.deadlines.connect <= tick {
            // A `connect` that has come in time is waited for, however long the session store and the database take.
            let under_way = conn.session.is_none() && conn.is_owed();
            conn.deadlines.connect = if under_way { tick.saturating_add(1) } else { NEVER };
            if conn.session.is_none() && !under_way {
                self.close(key, CloseReason::ConnectTimeout, "no connect in time");
            }
        }
        self.end_token(key, now_ms);
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if conn.deadlines.age <= tick {
            // A client that could not move, or would not, is asked again when its connection is as old once more.
            conn.deadlines.age = comes_of_age(tick, settings, &mut self.random);
            if conn.phase == Phase::Open && conn.session.is_some() {
                self.ask_to_move(key);
            }
        }
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if conn.deadlines.ping <= tick {
            conn.deadlines.ping = tick.saturating_add(settings.heartbeat_s);
            if conn.phase == Phase::Open {
                conn.outbox.push_ping(websocket::ping_frame());
                self.mark(key);
            }
        }
    }

    fn end_token(&mut self, key: u32, now_ms: i64) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if conn.deadlines.token_ms > now_ms {
            return;
        }
        conn.deadlines.token_ms = i64::MAX;
        let Some(session) = &conn.session else { return };
        let until = session.expires_at_ms();
        if until > now_ms {
            conn.deadlines.token_ms = until;
        } else {
            self.close(key, CloseReason::Unauthorized, "the token has expired");
        }
    }
}

/// Whether a peer has been silent for two heartbeats.
fn is_gone(conn: &Conn, tick: u32, settings: &ShardSettings) -> bool {
    gone_at(conn.heard_at, settings) <= tick
}

/// When a peer is gone that was last heard at a tick: two heartbeats later. The second in which it was heard is not counted, so that
/// nobody gets less than was promised.
fn gone_at(heard_at: u32, settings: &ShardSettings) -> u32 {
    heard_at.saturating_add(settings.heartbeat_s.saturating_mul(2)).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::{Shard, fixture};
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

    #[tokio::test]
    async fn a_peer_is_pinged_once_in_each_heartbeat_and_stays_while_it_answers() {
        let shard = fixture::shard_with(|settings| settings.heartbeat_s = 5);
        let (key, mut near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.conns[key as usize].session = Some(fixture::session());
        let mut pings = Vec::new();
        for tick in 1..=100 {
            table.on_tick(&shard.settings);
            if !fixture::received(&mut near).is_empty() {
                pings.push(tick);
                table.conns[key as usize].heard_at = table.tick;
            }
        }
        assert_eq!(pings, (5..=100).step_by(5).collect::<Vec<_>>());
        assert_eq!(table.conns[key as usize].phase, Phase::Open);
    }

    #[test]
    fn who_says_no_connect_is_closed_when_its_time_is_over() {
        let shard = fixture::shard_with(|settings| settings.connect_timeout_s = 3);
        let ((silent, _a), (connected, _b)) = (fixture::connect(&shard), fixture::connect(&shard));
        let mut table = shard.table.borrow_mut();
        table.conns[connected as usize].session = Some(fixture::session());
        ticks(&shard, &mut table, 3);
        assert_eq!(table.conns[silent as usize].phase, Phase::Open);
        ticks(&shard, &mut table, 1);
        assert_eq!(table.conns[silent as usize].phase, Phase::Closing);
        assert_eq!(table.conns[connected as usize].phase, Phase::Open);
        ticks(&shard, &mut table, CLOSE_SECONDS);
        assert_eq!(
            table.conns[silent as usize].phase,
            Phase::Broken,
            "its close frame was not awaited for ever"
        );
    }

    #[test]
    fn a_new_token_takes_the_place_of_the_one_before_whichever_ends_first() {
        let now_ms = clock::now_ms();
        let hour_ms = 3_600_000;
        for (first_ms, second_ms, ends) in [
            (now_ms - 1, now_ms + hour_ms, false),
            (now_ms + hour_ms, now_ms - 1, true),
            (now_ms - 2, now_ms - 1, true),
        ] {
            let shard = fixture::shard();
            let (key, _near) = fixture::connect(&shard);
            let mut table = shard.table.borrow_mut();
            let session = fixture::session();
            session.state().identity.expires_at_ms = second_ms;
            let conn = &mut table.conns[key as usize];
            conn.session = Some(session);
            conn.deadlines.token_ends(first_ms);
            conn.deadlines.token_ends(second_ms);
            ticks(&shard, &mut table, 1);
            let ended = table.conns[key as usize].phase != Phase::Open;
            assert_eq!(ended, ends, "{} ms, then {} ms", first_ms - now_ms, second_ms - now_ms);
        }
    }

    #[test]
    fn what_was_due_for_a_socket_is_not_due_for_the_one_that_has_its_place() {
        let shard = fixture::shard_with(|settings| settings.max_age_s = 20);
        let (old, _near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        ticks(&shard, &mut table, 9);
        let conn = &mut table.conns[old as usize];
        conn.deadlines.token_ends(0);
        table.remove(old);
        drop(table);
        let (new, mut near) = fixture::connect(&shard);
        assert_eq!(new, old, "the place is used again");
        let mut table = shard.table.borrow_mut();
        table.conns[new as usize].session = Some(fixture::session());
        ticks(&shard, &mut table, 10);
        let conn = &table.conns[new as usize];
        assert!(conn.phase == Phase::Open, "{:?}", conn.deadlines);
        assert!(fixture::received(&mut near).is_empty(), "{:?}", conn.deadlines);
    }

    fn ticks(shard: &Rc<Shard>, table: &mut Table, count: u32) {
        for _ in 0..count {
            table.on_tick(&shard.settings);
        }
    }
}

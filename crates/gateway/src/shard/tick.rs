//! Once a second a shard looks at each of its connections and does what is due.

use starling_hub::clock;
use starling_wire::protocol::CloseReason;
use starling_wire::websocket;

use super::settings::ShardSettings;
use super::table::Table;
use crate::metrics::METRICS;

impl Table {
    /// Handles everything that is due at this tick.
    pub(super) fn on_tick(&mut self, settings: &ShardSettings) {
        self.tick = self.tick.wrapping_add(1);
        let (tick, now_ms) = (self.tick, clock::now_ms());
        let mut due = std::mem::take(&mut self.due);
        let mut queued = 0;
        for (key, conn) in &mut self.conns {
            queued += conn.outbox.bytes();
            if let Some(page_bytes) = conn.speed.tick(conn.outbox.is_stalled(), settings.heartbeat_s())
                && let Some(session) = conn.client.session()
            {
                session.set_page_bytes(page_bytes);
            }
            if conn.deadlines.any_due(tick, now_ms, settings) {
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

    /// Handles what is due for one connection.
    fn attend(&mut self, key: u32, now_ms: i64, settings: &ShardSettings) {
        let tick = self.tick;
        let Some(conn) = self.get_mut(key) else { return };
        if conn.deadlines.is_over(tick, settings) {
            conn.break_off();
            conn.wake();
            return;
        }
        self.end_connect_timeout(key);
        self.end_token(key, now_ms);
        self.end_age(key, settings);
        self.ping(key, settings);
    }

    /// Closes a connection whose client has not said `connect` in time.
    fn end_connect_timeout(&mut self, key: u32) {
        let tick = self.tick;
        let Some(conn) = self.get_mut(key) else { return };
        let is_strange = conn.client.session().is_none();
        // A `connect` that came in time is waited for, however long the session store and the database take.
        let is_connecting = is_strange && !conn.queue.has_answered_all();
        if conn.deadlines.take_connect(tick, is_connecting) && is_strange && !is_connecting {
            self.close(key, CloseReason::ConnectTimeout, "no connect in time");
        }
    }

    /// Closes a connection whose token has ended, unless its client has a new one.
    fn end_token(&mut self, key: u32, now_ms: i64) {
        let Some(conn) = self.get_mut(key) else { return };
        if !conn.deadlines.take_token_end(now_ms) {
            return;
        }
        let Some(session) = conn.client.session() else { return };
        let until = session.expires_at_ms();
        if until > now_ms {
            conn.deadlines.set_token_end(until);
        } else {
            self.close(key, CloseReason::Unauthorized, "the token has expired");
        }
    }

    /// Asks the client of a connection that is as old as it may get to move. One that could not move, or would not, is asked again.
    fn end_age(&mut self, key: u32, settings: &ShardSettings) {
        let Table { conns, random, tick, .. } = self;
        let Some(conn) = conns.get_mut(key as usize) else { return };
        if conn.deadlines.take_age(*tick, settings, random)
            && conn.is_open()
            && conn.client.session().is_some()
        {
            self.ask_to_move(key);
        }
    }

    fn ping(&mut self, key: u32, settings: &ShardSettings) {
        let tick = self.tick;
        let Some(conn) = self.get_mut(key) else { return };
        if conn.deadlines.take_ping(tick, settings) && conn.is_open() {
            conn.outbox.push_ping(websocket::ping_frame());
            self.mark(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::conn::Phase;
    use super::super::deadlines::CLOSE_SECONDS;
    use super::super::fixture;
    use super::super::table::Shard;
    use super::*;

    /// Ticks from the last that was heard to the end.
    fn outlives(heartbeat_s: u32, heard_for: u32) -> u32 {
        let shard = fixture::shard_with(|config| config.heartbeat = Duration::from_secs(heartbeat_s.into()));
        let (key, _near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.conns[key as usize].client.connected(fixture::session());
        for _ in 0..heard_for {
            table.on_tick(&shard.env.settings);
            let tick = table.tick;
            table.conns[key as usize].deadlines.hear(tick);
        }
        let mut ticks = 0;
        while table.conns[key as usize].is_open() {
            table.on_tick(&shard.env.settings);
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
        let shard = fixture::shard_with(|config| config.heartbeat = Duration::from_secs(5));
        let (key, mut near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.conns[key as usize].client.connected(fixture::session());
        let mut pings = Vec::new();
        for tick in 1..=100 {
            table.on_tick(&shard.env.settings);
            if !fixture::received(&mut near).is_empty() {
                pings.push(tick);
                let tick = table.tick;
                table.conns[key as usize].deadlines.hear(tick);
            }
        }
        assert_eq!(pings, (5..=100).step_by(5).collect::<Vec<_>>());
        assert_eq!(table.conns[key as usize].phase(), Phase::Open);
    }

    #[test]
    fn who_says_no_connect_is_closed_when_its_time_is_over() {
        let shard = fixture::shard_with(|config| config.connect_timeout = Duration::from_secs(3));
        let ((silent, _a), (connected, _b)) = (fixture::connect(&shard), fixture::connect(&shard));
        let mut table = shard.table.borrow_mut();
        table.conns[connected as usize].client.connected(fixture::session());
        ticks(&shard, &mut table, 3);
        assert_eq!(table.conns[silent as usize].phase(), Phase::Open);
        ticks(&shard, &mut table, 1);
        assert_eq!(table.conns[silent as usize].phase(), Phase::Closing);
        assert_eq!(table.conns[connected as usize].phase(), Phase::Open);
        ticks(&shard, &mut table, CLOSE_SECONDS);
        assert_eq!(
            table.conns[silent as usize].phase(),
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
            conn.client.connected(session);
            conn.deadlines.set_token_end(first_ms);
            conn.deadlines.set_token_end(second_ms);
            ticks(&shard, &mut table, 1);
            let ended = table.conns[key as usize].phase() != Phase::Open;
            assert_eq!(ended, ends, "{} ms, then {} ms", first_ms - now_ms, second_ms - now_ms);
        }
    }

    #[test]
    fn what_was_due_for_a_socket_is_not_due_for_the_one_that_has_its_place() {
        let shard = fixture::shard_with(|config| config.connection_max_age = Duration::from_secs(20));
        let (old, _near) = fixture::connect(&shard);
        let mut table = shard.table.borrow_mut();
        ticks(&shard, &mut table, 9);
        let conn = &mut table.conns[old as usize];
        conn.deadlines.set_token_end(0);
        table.remove(old);
        drop(table);
        let (new, mut near) = fixture::connect(&shard);
        assert_eq!(new, old, "the place is used again");
        let mut table = shard.table.borrow_mut();
        table.conns[new as usize].client.connected(fixture::session());
        ticks(&shard, &mut table, 10);
        let conn = &table.conns[new as usize];
        assert!(conn.is_open(), "{:?}", conn.deadlines);
        assert!(fixture::received(&mut near).is_empty(), "{:?}", conn.deadlines);
    }

    fn ticks(shard: &Rc<Shard>, table: &mut Table, count: u32) {
        for _ in 0..count {
            table.on_tick(&shard.env.settings);
        }
    }
}

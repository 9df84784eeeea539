//! Asking clients to move to other nodes. If they do not, they stay.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use starling_hub::Encoded;
use starling_wire::protocol;
use tokio::time::Instant;

use super::chunks::Kind;
use super::conn::Conn;
use super::move_requests::MoveRequests;
use super::table::Table;
use crate::metrics::METRICS;

/// The time over which clients move that are asked to, apart from a drain.
const SPREAD: Duration = Duration::from_secs(10);

impl Table {
    /// Asks a client to move to another node.
    pub(super) fn ask_to_move(&mut self, key: u32) {
        let Table { conns, random, .. } = self;
        let Some(conn) = conns.get_mut(key as usize) else { return };
        METRICS.moved.increment(1);
        tell_draining(conn, SPREAD, random);
        self.mark(key);
    }

    /// Asks some clients to move to other nodes: sessions that have not been asked lately.
    pub(super) fn shed(&mut self, count: usize, asked: &MoveRequests) {
        let now = Instant::now();
        let may_be_asked = |conn: &Conn| {
            let session = conn.client.session().filter(|_| conn.is_open());
            session.is_some_and(|session| !asked.holds(&session.id, now))
        };
        let candidates = self.conns.iter().filter(|(_, conn)| may_be_asked(conn)).map(|(key, _)| key);
        let chosen: Vec<usize> = candidates.choose_multiple(&mut self.random, count);
        for key in chosen {
            let Some(session) = self.conns.get(key).and_then(|conn| conn.client.session()) else { continue };
            if !asked.enter(&session.id, now) {
                break;
            }
            self.ask_to_move(u32::try_from(key).unwrap_or(u32::MAX));
        }
        self.flush_dirty();
    }
}

/// Tells a client to move to another node at a random moment of `spread`.
pub(super) fn tell_draining(conn: &mut Conn, spread: Duration, random: &mut SmallRng) {
    let after = spread.mul_f64(random.random_range(0.0..1.0));
    let event = protocol::Draining { reconnect_after_ms: u64::try_from(after.as_millis()).unwrap_or(0) };
    conn.tell(&Arc::new(Encoded::new(event)), Kind::Reply);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use starling_hub::Session;
    use tokio::io::DuplexStream;

    use super::super::fixture::{LONG, connect, open_count, patient_shard, received, session_of, shard_with};
    use super::super::table::Shard;
    use super::*;

    const HOURS_6: Duration = Duration::from_secs(6 * 3_600);

    fn connect_as(shard: &Rc<Shard>, session: Arc<Session>) -> (u32, DuplexStream) {
        let (key, near) = connect(shard);
        shard.table.borrow_mut().conns[key as usize].client.connected(session);
        (key, near)
    }

    /// Number of sessions that were asked at this moment.
    fn asked_now(shard: &Shard) -> usize {
        shard.env.settings.move_requests.count_at(Instant::now())
    }

    fn shed(shard: &Shard, count: usize) {
        shard.table.borrow_mut().shed(count, &shard.env.settings.move_requests);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_asked_once_stays_as_long_as_it_likes_and_is_not_asked_again_when_it_comes_back() {
        const COUNT: usize = 400;
        let shard = patient_shard();
        let sessions: Vec<_> = (0..COUNT).map(|n| session_of(&format!("s{n}"))).collect();
        let held: Vec<_> = sessions.iter().map(|session| connect_as(&shard, session.clone())).collect();
        let strangers: Vec<_> = (0..COUNT).map(|_| connect(&shard)).collect();
        for expected in [COUNT / 2, COUNT / 2, 0] {
            shed(&shard, COUNT / 2);
            assert_eq!(asked_now(&shard), expected, "nobody is asked twice, and no stranger at all");
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        for _ in 0..600 {
            shard.table.borrow_mut().on_tick(&shard.env.settings);
        }
        assert_eq!(open_count(&shard.table.borrow()), 2 * COUNT, "nobody is closed for staying");
        for (key, _) in &held {
            shard.table.borrow_mut().remove(*key);
        }
        let _back: Vec<_> = sessions.into_iter().map(|session| connect_as(&shard, session)).collect();
        shed(&shard, COUNT);
        assert_eq!(asked_now(&shard), 0, "they came back a moment ago");
        tokio::time::advance(HOURS_6).await;
        shed(&shard, COUNT);
        assert_eq!(asked_now(&shard), COUNT);
        drop(strangers);
    }

    #[test]
    fn a_connection_that_comes_of_age_is_asked_again_each_time_and_never_closed() {
        let shard = shard_with(|config| {
            (config.heartbeat, config.connect_timeout) = (LONG, LONG);
            config.connection_max_age = Duration::from_secs(100);
        });
        let (_key, mut near) = connect_as(&shard, session_of("s"));
        let (_stranger, mut far) = connect(&shard);
        let mut table = shard.table.borrow_mut();
        let mut times: Vec<u32> = Vec::new();
        for second in 1..=1_000 {
            table.on_tick(&shard.env.settings);
            if String::from_utf8_lossy(&received(&mut near)).contains("draining") {
                times.push(second);
            }
        }
        assert!((10..=12).contains(&times.len()), "{times:?}");
        assert!(times.windows(2).all(|pair| (79..=100).contains(&(pair[1] - pair[0]))), "{times:?}");
        assert_eq!(open_count(&table), 2);
        assert!(received(&mut far).is_empty(), "a client without a session has nothing to move");
    }
}

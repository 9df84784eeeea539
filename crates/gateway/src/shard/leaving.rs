//! Asking clients to move to other nodes: all of them when the node drains, some of them when it has too many, each when its
//! connection is old. Only a drain closes those who stay.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use starling_hub::{Encoded, Map};
use starling_wire::protocol::{self, CloseReason};
use tokio::time::Instant;

use super::conn::{Conn, Phase};
use super::outbox::Kind;
use super::{Shard, Table};
use crate::metrics::METRICS;

/// Over how long the moves of clients are spread that are asked to move, apart from a drain.
const SPREAD: Duration = Duration::from_secs(10);
/// When connections are closed that are still there, in parts of a drain's time.
const CLOSING: std::ops::Range<f64> = 0.6..0.9;
/// When all connections are closed that are still there, in parts of a drain's time.
const LAST: f64 = 0.92;
/// How long a drain takes at most where there is no other node: only answers that are under way are waited for.
const ALONE_MAX: Duration = Duration::from_secs(10);
/// How often a node without others looks whether clients have got what they wait for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a session is not asked again to move for balance, wherever on this node it comes back.
const ASKED_FOR: Duration = Duration::from_secs(6 * 3_600);
/// How many sessions are remembered that were asked; while there are so many, no others are.
const ASKED_MAX: usize = 100_000;

/// Sessions of this node that were asked lately to move for balance.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    sessions: Mutex<Map<Arc<str>, Instant>>,
}

impl Asked {
    /// Whether a session was asked lately.
    fn holds(&self, session: &str, now: Instant) -> bool {
        self.sessions.lock().get(session).is_some_and(|at| now.duration_since(*at) < ASKED_FOR)
    }

    /// Remembers that a session is asked. `false`: there is no room.
    fn enter(&self, session: &Arc<str>, now: Instant) -> bool {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= ASKED_MAX {
            sessions.retain(|_, at| now.duration_since(*at) < ASKED_FOR);
        }
        if sessions.len() >= ASKED_MAX {
            return false;
        }
        sessions.insert(session.clone(), now);
        true
    }
}

/// How a drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainPlan {
    /// How long the drain may still take.
    pub limit: Duration,
    /// Over how long the moves of clients are spread that follow `draining`; `None`: there is no other node to move to.
    pub spread: Option<Duration>,
}

impl DrainPlan {
    /// A drain that the other nodes can take: each of them is sent so many clients a second, or more if they would not fit into half
    /// of the time.
    pub fn new(limit: Duration, connections: u64, others: usize, clients_per_second: u32) -> DrainPlan {
        let rate = f64::from(clients_per_second.max(1)) * others as f64;
        if others == 0 {
            return DrainPlan { limit: limit.min(ALONE_MAX), spread: None };
        }
        let spread = Duration::from_secs_f64(connections as f64 / rate).min(limit / 2);
        DrainPlan { limit, spread: Some(spread) }
    }
}

/// Ends all connections of a shard within the time of the drain.
pub(super) async fn drain(shard: Rc<Shard>, plan: DrainPlan) {
    let until = Instant::now() + plan.limit.mul_f64(LAST);
    match plan.spread {
        Some(spread) => hand_over(&shard, plan.limit, spread).await,
        None => close_when_told(&shard, until).await,
    }
    tokio::time::sleep_until(until).await;
    let mut table = shard.table.borrow_mut();
    for key in table.keys() {
        table.close(key, CloseReason::Restart, RESTARTING);
    }
    table.flush_dirty();
}

/// Tells every client when to move to another node, and closes in random order, before the end, the connections that are still there.
async fn hand_over(shard: &Shard, limit: Duration, spread: Duration) {
    let began = Instant::now();
    let mut leaving: Vec<(Duration, u32, u32)> = Vec::new();
    {
        let mut table = shard.table.borrow_mut();
        for key in table.keys() {
            let Table { conns, random, .. } = &mut *table;
            let Some(conn) = conns.get_mut(key as usize) else { continue };
            tell(conn, spread, random);
            leaving.push((limit.mul_f64(random.random_range(CLOSING)), key, conn.generation));
            table.mark(key);
        }
        table.flush_dirty();
    }
    leaving.sort_unstable_by_key(|(at, ..)| *at);
    for (at, key, generation) in leaving {
        tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
        let mut table = shard.table.borrow_mut();
        // A client that waits for an answer gets it first, and is closed with the last.
        let goes = |conn: &Conn| conn.generation == generation && !conn.is_owed();
        if table.conns.get(key as usize).is_some_and(goes) {
            table.close(key, CloseReason::Restart, RESTARTING);
            table.flush_dirty();
        }
    }
}

/// Closes every connection as soon as its client has the answers that it waits for. There is nowhere to move to, so `draining` would
/// only have clients try in vain.
async fn close_when_told(shard: &Shard, until: Instant) {
    while Instant::now() < until {
        {
            let mut table = shard.table.borrow_mut();
            let done = |conn: &Conn| !conn.is_owed();
            for key in table.keys() {
                if table.conns.get(key as usize).is_some_and(done) {
                    table.close(key, CloseReason::Restart, RESTARTING);
                }
            }
            table.flush_dirty();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is said with 1012.
const RESTARTING: &str = "restarting; reconnect with resume";

impl Table {
    /// Asks a client to move to another node. If it does not, it stays.
    pub(super) fn ask_to_move(&mut self, key: u32) {
        let Table { conns, random, .. } = self;
        let Some(conn) = conns.get_mut(key as usize) else { return };
        METRICS.moved.increment(1);
        tell(conn, SPREAD, random);
        self.mark(key);
    }

    /// Asks some clients to move to other nodes: sessions that have not been asked lately.
    pub(super) fn shed(&mut self, count: usize) {
        let now = Instant::now();
        let free = |conn: &Conn| {
            let session = conn.session.as_ref().filter(|_| conn.phase == Phase::Open);
            session.is_some_and(|session| !self.asked.holds(&session.id, now))
        };
        let free = self.conns.iter().filter(|(_, conn)| free(conn)).map(|(key, _)| key);
        let chosen: Vec<usize> = free.choose_multiple(&mut self.random, count);
        for key in chosen {
            let Some(session) = self.conns.get(key).and_then(|conn| conn.session.clone()) else { continue };
            if !self.asked.enter(&session.id, now) {
                break;
            }
            self.ask_to_move(u32::try_from(key).unwrap_or(u32::MAX));
        }
        self.flush_dirty();
    }

    fn keys(&self) -> Vec<u32> {
        self.conns.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect()
    }
}

fn tell(conn: &mut Conn, spread: Duration, random: &mut SmallRng) {
    let told = spread.mul_f64(random.random_range(0.0..1.0));
    let event = protocol::Draining { reconnect_after_ms: u64::try_from(told.as_millis()).unwrap_or(0) };
    conn.tell(&Arc::new(Encoded::new(event)), Kind::Reply);
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use starling_hub::Session;
    use tokio::io::{AsyncRead, DuplexStream, ReadBuf};

    use super::super::fixture::{connect, session_of, shard_with};
    use super::*;

    const HOURS_6: Duration = Duration::from_secs(6 * 3_600);

    /// A shard on which nobody is closed for being silent.
    fn patient_shard() -> Rc<Shard> {
        shard_with(|settings| (settings.heartbeat_s, settings.connect_timeout_s) = (100_000, 100_000))
    }

    fn connect_as(shard: &Rc<Shard>, session: Arc<Session>) -> (u32, DuplexStream) {
        let (key, near) = connect(shard);
        shard.table.borrow_mut().conns[key as usize].session = Some(session);
        (key, near)
    }

    fn open(table: &Table) -> usize {
        table.conns.iter().filter(|(_, conn)| conn.phase == Phase::Open).count()
    }

    /// How many sessions were asked at this moment.
    fn asked_now(shard: &Shard) -> usize {
        let now = Instant::now();
        shard.settings.asked.sessions.lock().values().filter(|at| **at == now).count()
    }

    /// What a client has been sent since it looked last.
    fn sent(near: &mut DuplexStream) -> String {
        let mut text = String::new();
        let mut space = [0; 4_096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let read = Pin::new(&mut *near).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            match read {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    text.push_str(&String::from_utf8_lossy(buffer.filled()));
                }
                _ => return text,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_asked_once_stays_as_long_as_it_likes_and_is_not_asked_again_when_it_comes_back() {
        const COUNT: usize = 400;
        let shard = patient_shard();
        let sessions: Vec<_> = (0..COUNT).map(|n| session_of(&format!("s{n}"))).collect();
        let held: Vec<_> = sessions.iter().map(|session| connect_as(&shard, session.clone())).collect();
        let strangers: Vec<_> = (0..COUNT).map(|_| connect(&shard)).collect();
        for expected in [COUNT / 2, COUNT / 2, 0] {
            shard.table.borrow_mut().shed(COUNT / 2);
            assert_eq!(asked_now(&shard), expected, "nobody is asked twice, and no stranger at all");
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        for _ in 0..600 {
            shard.table.borrow_mut().on_tick(&shard.settings);
        }
        assert_eq!(open(&shard.table.borrow()), 2 * COUNT, "nobody is closed for staying");
        for (key, _) in &held {
            shard.table.borrow_mut().remove(*key);
        }
        let _back: Vec<_> = sessions.into_iter().map(|session| connect_as(&shard, session)).collect();
        shard.table.borrow_mut().shed(COUNT);
        assert_eq!(asked_now(&shard), 0, "they came back a moment ago");
        tokio::time::advance(HOURS_6).await;
        shard.table.borrow_mut().shed(COUNT);
        assert_eq!(asked_now(&shard), COUNT);
        drop(strangers);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_asked_than_can_be_remembered() {
        let (asked, now) = (Asked::default(), Instant::now());
        for n in 0..ASKED_MAX {
            assert!(asked.enter(&n.to_string().into(), now));
        }
        assert!(!asked.enter(&"one more".into(), now));
        assert!(asked.enter(&"one more".into(), now + HOURS_6));
        assert_eq!(asked.sessions.lock().len(), 1);
    }

    #[test]
    fn a_connection_that_comes_of_age_is_asked_again_each_time_and_never_closed() {
        let shard = shard_with(|settings| {
            (settings.heartbeat_s, settings.connect_timeout_s, settings.max_age_s) = (100_000, 100_000, 100);
        });
        let (_key, mut near) = connect_as(&shard, session_of("s"));
        let (_stranger, mut far) = connect(&shard);
        let mut table = shard.table.borrow_mut();
        let mut times: Vec<u32> = Vec::new();
        for second in 1..=1_000 {
            table.on_tick(&shard.settings);
            if sent(&mut near).contains("draining") {
                times.push(second);
            }
        }
        assert!((10..=12).contains(&times.len()), "{times:?}");
        assert!(times.windows(2).all(|pair| (79..=100).contains(&(pair[1] - pair[0]))), "{times:?}");
        assert_eq!(open(&table), 2);
        assert_eq!(sent(&mut far), "", "who has no session has nothing to move");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_others_closes_at_once_except_those_who_wait_for_an_answer() {
        let shard = patient_shard();
        let (_idle, mut idle_end) = connect_as(&shard, session_of("idle"));
        let (busy, _busy_end) = connect_as(&shard, session_of("busy"));
        shard.table.borrow_mut().conns[busy as usize].awaited = 1;
        let plan = DrainPlan::new(Duration::from_secs(30), 2, 0, 500);
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let draining = tokio::task::spawn_local(drain(shard.clone(), plan));
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(open(&shard.table.borrow()), 1, "the answer is under way");
                shard.table.borrow_mut().conns[busy as usize].awaited = 0;
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(open(&shard.table.borrow()), 0);
                draining.await.expect("no panic");
            })
            .await;
        let sent = sent(&mut idle_end);
        assert!(sent.contains("restarting") && !sent.contains("draining"), "{sent:?}");
    }

    #[test]
    fn clients_are_spread_as_the_other_nodes_can_take_them_and_over_half_of_the_time_at_most() {
        let plan = |connections, others| DrainPlan::new(Duration::from_secs(30), connections, others, 500);
        let spread = |connections, others| plan(connections, others).spread.map(|spread| spread.as_millis());
        assert_eq!(spread(0, 2), Some(0));
        assert_eq!(spread(1_000, 2), Some(1_000));
        assert_eq!(spread(10_000, 4), Some(5_000));
        assert_eq!(spread(1_000_000, 2), Some(15_000));
        assert_eq!(spread(1_000, 0), None);
        assert_eq!(plan(1_000, 0).limit, ALONE_MAX);
    }
}

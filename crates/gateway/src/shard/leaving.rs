//! A shard's part of a drain: clients are told when to move to other nodes, and the connections that are left are closed.

use std::rc::Rc;
use std::time::Duration;

use rand::Rng;
use starling_wire::protocol::CloseReason;
use tokio::time::Instant;

use super::close_text::RESTARTING;
use super::conn::Conn;
use super::drain_plan::DrainPlan;
use super::moving::tell_draining;
use super::table::{Shard, Table};

/// The part of a drain's time in which connections are closed that are still there.
const CLOSING: std::ops::Range<f64> = 0.6..0.9;
/// The part of a drain's time after which all connections are closed.
const LAST: f64 = 0.92;
/// How often a node without others looks whether clients have the answers that they wait for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Ends all connections of a shard within the time of a drain.
pub(super) async fn drain(shard: Rc<Shard>, plan: DrainPlan) {
    let until = Instant::now() + plan.limit.mul_f64(LAST);
    match plan.spread {
        Some(spread) => hand_over(&shard, plan.limit, spread).await,
        None => close_when_answered(&shard, until).await,
    }
    tokio::time::sleep_until(until).await;
    close_where(&mut shard.table.borrow_mut(), |_| true);
}

/// Tells every client when to move to another node, and closes in random order, before the end, the connections that are still there.
async fn hand_over(shard: &Shard, limit: Duration, spread: Duration) {
    let began = Instant::now();
    let mut leaving = tell_all(&mut shard.table.borrow_mut(), limit, spread);
    leaving.sort_unstable_by_key(|(at, ..)| *at);
    for (at, key, generation) in leaving {
        tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
        let mut table = shard.table.borrow_mut();
        // A client that waits for an answer gets it first, and is closed with the last.
        let goes = |conn: &mut Conn| conn.generation == generation && conn.queue.has_answered_all();
        if table.get_mut(key).is_some_and(goes) {
            table.close(key, CloseReason::Restart, RESTARTING);
            table.flush_dirty();
        }
    }
}

/// Tells every client when to move. Returns, for each connection, its key, its generation, and how far into the drain it is closed.
fn tell_all(table: &mut Table, limit: Duration, spread: Duration) -> Vec<(Duration, u32, u32)> {
    let mut leaving = Vec::new();
    for key in table.keys() {
        let Table { conns, random, .. } = table;
        let Some(conn) = conns.get_mut(key as usize) else { continue };
        tell_draining(conn, spread, random);
        leaving.push((limit.mul_f64(random.random_range(CLOSING)), key, conn.generation));
        table.mark(key);
    }
    table.flush_dirty();
    leaving
}

/// Closes every connection as soon as its client has the answers that it waits for. There is nowhere to move to, so `draining` would
/// only have clients try in vain.
async fn close_when_answered(shard: &Shard, until: Instant) {
    while Instant::now() < until {
        close_where(&mut shard.table.borrow_mut(), |conn| conn.queue.has_answered_all());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Closes those connections for which `goes` holds.
fn close_where(table: &mut Table, goes: impl Fn(&Conn) -> bool) {
    for key in table.keys() {
        if table.conns.get(key as usize).is_some_and(|conn| goes(conn)) {
            table.close(key, CloseReason::Restart, RESTARTING);
        }
    }
    table.flush_dirty();
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{connect, open_count, patient_shard, received};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_without_others_closes_at_once_except_those_who_wait_for_an_answer() {
        let shard = patient_shard();
        let (_idle, mut idle_end) = connect(&shard);
        let (busy, _busy_end) = connect(&shard);
        shard.table.borrow_mut().conns[busy as usize].queue.wait_for_answer();
        let plan = DrainPlan::new(Duration::from_secs(30), 2, 0, 500);
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let draining = tokio::task::spawn_local(drain(shard.clone(), plan));
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(open_count(&shard.table.borrow()), 1, "the answer is under way");
                shard.table.borrow_mut().conns[busy as usize].queue.answer_came();
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(open_count(&shard.table.borrow()), 0);
                draining.await.expect("no panic");
            })
            .await;
        let sent = String::from_utf8_lossy(&received(&mut idle_end)).into_owned();
        assert!(sent.contains("restarting") && !sent.contains("draining"), "{sent:?}");
    }
}

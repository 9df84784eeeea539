//! What breaks during a run.

use std::time::Duration;

use super::super::chance::Chance;
use super::BUSY_MS;
use super::scenario::Scenario;

/// Something that breaks. A slot is a node's place in the cluster, which its successor takes.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The node's link to the broker is cut.
    CutLink { slot: usize, time: Duration },
    /// The node hears nothing from the broker, although its link looks well.
    Deafen { slot: usize },
    /// The node stands still.
    Freeze { slot: usize, time: Duration },
    /// The node dies. `back_after`: when another one takes its place; `same_name`: whether that one has the same name.
    Crash { slot: usize, back_after: Option<Duration>, same_name: bool },
    /// The node drains, and another one takes its place.
    Drain { slot: usize },
    /// The node asks this many clients of each shard to move.
    Shed { slot: usize, count: usize },
    /// The database is down.
    LogAway { time: Duration },
    /// The session store is down, and perhaps loses its data.
    SessionsAway { time: Duration, wiped: bool },
    /// The session store and every link to the broker are down.
    RedisAway { time: Duration, wiped: bool },
    /// A conversation is deleted through one node, and created again through another.
    Remake { conversation: usize },
    /// A member is removed from a conversation through this node, and added again through any node.
    Expel { slot: usize, client: usize, conversation: usize },
}

impl Fault {
    /// Returns how long it lasts.
    pub fn time(&self) -> Duration {
        match *self {
            Fault::CutLink { time, .. }
            | Fault::Freeze { time, .. }
            | Fault::LogAway { time }
            | Fault::SessionsAway { time, .. }
            | Fault::RedisAway { time, .. } => time,
            Fault::Crash { back_after, .. } => back_after.unwrap_or_default(),
            Fault::Deafen { .. } | Fault::Drain { .. } => Duration::from_secs(5),
            Fault::Shed { .. } | Fault::Remake { .. } | Fault::Expel { .. } => Duration::ZERO,
        }
    }
}

/// Draws the faults of a run, in the order of their times.
pub(super) fn faults(scenario: Scenario, nodes: usize, chance: &mut Chance) -> Vec<(Duration, Fault)> {
    let slot = |chance: &mut Chance| chance.index(nodes);
    let mut faults = Vec::new();
    match scenario {
        Scenario::Order | Scenario::SlowReaders => {}
        Scenario::Remakes if chance.one_in(2) => {}
        Scenario::Drain => {
            let first = slot(chance);
            for turn in 0..chance.index(nodes) + 1 {
                let at = Duration::from_millis(1_000 + 2_000 * turn as u64);
                faults.push((at, Fault::Drain { slot: (first + turn) % nodes }));
            }
        }
        Scenario::Links | Scenario::Crash | Scenario::Outages | Scenario::Freeze => {
            let most = if scenario == Scenario::Crash { 1 } else { 3 };
            for _ in 0..chance.between(1, most) {
                faults.push((chance.millis(500, 4_500), fault(scenario, slot(chance), chance)));
            }
        }
        Scenario::Absence | Scenario::Moves | Scenario::Races if chance.one_in(2) => {}
        Scenario::Races => {
            for _ in 0..chance.between(1, 2) {
                let of = chance.pick(&[Scenario::Links, Scenario::Outages, Scenario::Freeze]);
                faults.push((chance.millis(500, BUSY_MS), fault(of, slot(chance), chance)));
            }
        }
        Scenario::Moves => {
            for _ in 0..chance.between(1, 3) {
                faults.push((chance.millis(1_000, BUSY_MS), fault(scenario, slot(chance), chance)));
            }
        }
        Scenario::Absence | Scenario::Remakes => {
            let of = chance.pick(&[
                Scenario::Links,
                Scenario::Crash,
                Scenario::Drain,
                Scenario::Outages,
                Scenario::Freeze,
            ]);
            faults.push((chance.millis(500, 8_000), fault(of, slot(chance), chance)));
        }
        Scenario::Mixed => {
            for _ in 0..chance.between(1, 4) {
                let of = chance.pick(&[
                    Scenario::Links,
                    Scenario::Crash,
                    Scenario::Drain,
                    Scenario::Outages,
                    Scenario::Freeze,
                    Scenario::Moves,
                ]);
                faults.push((chance.millis(500, 5_000), fault(of, slot(chance), chance)));
            }
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Draws one fault of a scenario.
fn fault(scenario: Scenario, slot: usize, chance: &mut Chance) -> Fault {
    match scenario {
        Scenario::Links if chance.one_in(3) => Fault::Deafen { slot },
        Scenario::Links => Fault::CutLink { slot, time: chance.millis(10, 6_000) },
        Scenario::Drain => Fault::Drain { slot },
        Scenario::Moves => Fault::Shed { slot, count: chance.index(3) + 1 },
        Scenario::Freeze => Fault::Freeze { slot, time: chance.millis(100, 12_000) },
        Scenario::Outages => match chance.index(4) {
            0 | 1 => Fault::LogAway { time: chance.millis(100, 3_000) },
            2 => Fault::SessionsAway { time: chance.millis(100, 10_000), wiped: chance.one_in(2) },
            _ => Fault::RedisAway { time: chance.millis(100, 10_000), wiped: chance.one_in(2) },
        },
        _ => {
            // The node in the first slot always comes back, so that some node serves.
            let back = slot == 0 || chance.one_in(2);
            let back_after = back.then(|| chance.millis(100, 6_000));
            Fault::Crash { slot, back_after, same_name: chance.one_in(2) }
        }
    }
}

//! The meaning of a seed: the size of the cluster, how unreliable everything is, and what breaks when.

mod fault;
mod lateness;
mod scenario;
mod script;

use std::time::Duration;

pub use fault::Fault;
use lateness::come_late;
pub use scenario::{SCENARIOS, Scenario};
pub use script::{Deed, Script};

use super::broker::Carriage;
use super::chance::Chance;

/// How long clients are busy, milliseconds.
const BUSY_MS: u64 = 5_000;
/// The size of an inbox, an outbox and a pipe that do not get full.
const INBOX_ITEMS: usize = 65_536;
const QUEUE_BYTES: usize = 256 * 1024;
const PIPE_BYTES: usize = 64 * 1024;

/// The meaning of a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub scenario: Scenario,
    pub nodes: usize,
    pub shards: usize,
    pub conversations: usize,
    pub clients: Vec<Script>,
    pub faults: Vec<(Duration, Fault)>,
    pub carriage: Carriage,
    /// Whether conversations are deleted and created again.
    pub remakes: bool,
    /// The typical delay to the session store in one direction, milliseconds.
    pub network_ms: u64,
    /// The typical delay to the database in one direction, milliseconds.
    pub log_ms: u64,
    /// A node's connections to the database for everything but appends.
    pub log_connections: usize,
    /// Whether appends use the same connections.
    pub appends_share: bool,
    /// Most reads for clients that a node has under way.
    pub reads_at_once: usize,
    /// One call in this many to the database and the session store fails; 0: none.
    pub calls_fail_one_in: u64,
    pub inbox_items: usize,
    pub queue_bytes: usize,
    pub pipe_bytes: usize,
    pub drain: Duration,
    /// How long a session outlives its connection.
    pub resume_window: Duration,
    /// The lifetime of a token that is issued before everything is calm. `None`: tokens live for ever.
    pub token: Option<Duration>,
    /// The highest age of a connection; zero: no limit.
    pub connection_max_age: Duration,
    /// Whether inboxes and outboxes are so small that events of presence are dropped. Asking for presence still gives the right answer.
    pub is_tight: bool,
    /// When after the start nothing breaks any more, and every call gets an answer.
    pub calm_after: Duration,
}

impl Plan {
    /// Returns a plan in which nothing breaks, nothing is lost, and nothing is small.
    pub fn undisturbed() -> Plan {
        Plan {
            shards: 1,
            carriage: Carriage { typical_ms: 1, loses_one_in: 0, repeats_one_in: 0, no_answer_one_in: 0 },
            network_ms: 1,
            log_ms: 1,
            calls_fail_one_in: 0,
            inbox_items: INBOX_ITEMS,
            queue_bytes: QUEUE_BYTES,
            pipe_bytes: PIPE_BYTES,
            ..Plan::of(0)
        }
    }

    /// Derives the plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let scenario = SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
        let chance = &mut Chance::new(seed, "plan");
        let all = scenario == Scenario::Mixed;
        let rough = all || matches!(scenario, Scenario::Order | Scenario::Remakes);
        let slow = scenario == Scenario::SlowReaders || (all && chance.one_in(3));
        let nodes = chance.pick(&[2, 2, 3]);
        let conversations = chance.pick(&[1, 1, 2]);
        let mut faults = fault::faults(scenario, nodes, chance);
        if scenario == Scenario::Remakes || (all && chance.one_in(4)) {
            for _ in 0..chance.between(1, 3) {
                let conversation = chance.index(conversations);
                faults.push((chance.millis(1_500, BUSY_MS), Fault::Remake { conversation }));
            }
            faults.sort_by_key(|(at, _)| *at);
        }
        let moves = scenario == Scenario::Moves || (all && chance.one_in(4));
        let resume_window = match scenario {
            Scenario::Absence => chance.millis(2_000, 12_000),
            Scenario::Mixed => chance.pick(&[Duration::from_secs(120), Duration::from_secs(5)]),
            _ => Duration::from_secs(120),
        };
        let clients = clients(scenario, nodes, conversations, slow, resume_window, &mut faults, chance);
        let breaks = faults.iter().map(|(at, fault)| *at + fault.time());
        let returns = clients.iter().flat_map(|script| &script.deeds).map(|(at, deed)| *at + deed.time());
        let last = breaks.chain(returns).max().unwrap_or_default();
        let network_ms = chance.pick(&[1, 2, 5, if rough { 30 } else { 10 }]);
        Plan {
            seed,
            scenario,
            nodes,
            shards: chance.pick(&[1, 1, 2]),
            conversations,
            clients,
            remakes: faults.iter().any(|(_, fault)| matches!(fault, Fault::Remake { .. })),
            faults,
            carriage: Carriage {
                typical_ms: network_ms,
                loses_one_in: if rough { chance.pick(&[0, 3, 8, 20]) } else { 0 },
                repeats_one_in: if rough { chance.pick(&[0, 10]) } else { 0 },
                no_answer_one_in: if rough { chance.pick(&[0, 15]) } else { 0 },
            },
            network_ms,
            log_ms: chance.pick(&[0, 1, 3, 10]),
            log_connections: 16,
            appends_share: false,
            reads_at_once: 4,
            calls_fail_one_in: if all || scenario == Scenario::Outages {
                chance.pick(&[0, 12, 40])
            } else {
                0
            },
            inbox_items: if slow { chance.pick(&[3, 8, INBOX_ITEMS]) } else { INBOX_ITEMS },
            queue_bytes: if slow { chance.pick(&[600, 2_000, 8_000]) } else { QUEUE_BYTES },
            pipe_bytes: if slow { chance.pick(&[300, 2_000]) } else { PIPE_BYTES },
            is_tight: slow,
            drain: chance.millis(2_000, 5_000),
            resume_window,
            token: (moves && chance.one_in(2)).then(|| chance.millis(2_000, 6_000)),
            connection_max_age: Duration::from_secs(if moves { chance.pick(&[0, 2, 5]) } else { 0 }),
            calm_after: last.max(Duration::from_millis(BUSY_MS)),
        }
    }
}

/// Draws the scripts of a run's clients. Adds faults to those of the run if publications must come late.
fn clients(
    scenario: Scenario,
    nodes: usize,
    conversations: usize,
    slow: bool,
    resume_window: Duration,
    faults: &mut Vec<(Duration, Fault)>,
    chance: &mut Chance,
) -> Vec<Script> {
    let all = scenario == Scenario::Mixed;
    let count = chance.between(3, 4);
    let mut clients: Vec<Script> =
        (0..count).map(|_| script::script(scenario, conversations, slow, chance)).collect();
    if scenario == Scenario::Remakes {
        come_late(faults, &mut clients, nodes, chance);
    }
    if scenario == Scenario::Races || all {
        for script in &mut clients {
            script.race(if all { 2 } else { 1 }, chance);
            if !all || chance.one_in(2) {
                script.falter(chance);
            }
        }
    }
    if scenario == Scenario::Absence || all {
        let one_in = if all { 3 } else { 1 };
        for script in &mut clients {
            if chance.one_in(one_in) {
                script.leave_for_a_while(resume_window, chance);
            }
        }
    }
    clients
}

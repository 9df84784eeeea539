//! What a seed means: how large the world is, how bad its weather, and what breaks when.

use std::time::Duration;

use super::broker::Carriage;
use super::chance::Chance;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Publications late, in another order, twice, or lost without a word.
    Order,
    /// Links to the broker cut, or deaf.
    Links,
    /// A node dies as by kill -9; who was on it comes back elsewhere, or does not.
    Crash,
    /// Nodes are replaced in order, one after the other.
    Drain,
    /// Database and session store away, or forgetful, and calls without an answer.
    Outages,
    /// Clients that stop reading, small inboxes, small queues.
    SlowReaders,
    /// A node that does nothing for a while, perhaps for longer than its lease.
    Freeze,
    /// Clients away for longer than a session outlives its socket, or for nearly as long.
    Absence,
    /// Connections that come of age, tokens that end, nodes that ask some of their clients to go elsewhere.
    Moves,
    /// Clients that open one socket after the other for the same session, on several nodes, and operators that end sessions.
    Races,
    /// All of it.
    Mixed,
    /// Conversations that are deleted, and made again under their names.
    Remakes,
}

/// Every scenario, in the order in which seeds take them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario::Order,
    Scenario::Links,
    Scenario::Crash,
    Scenario::Drain,
    Scenario::Outages,
    Scenario::SlowReaders,
    Scenario::Freeze,
    Scenario::Absence,
    Scenario::Moves,
    Scenario::Races,
    Scenario::Mixed,
    Scenario::Remakes,
];

/// Something that breaks. Nodes go by their slot.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    CutLink {
        slot: usize,
        time: Duration,
    },
    Deafen {
        slot: usize,
    },
    Freeze {
        slot: usize,
        time: Duration,
    },
    Crash {
        slot: usize,
        back_after: Option<Duration>,
        same_name: bool,
    },
    Drain {
        slot: usize,
    },
    /// It asks so many of each shard's clients to go elsewhere.
    Shed {
        slot: usize,
        count: usize,
    },
    LogAway {
        time: Duration,
    },
    SessionsAway {
        time: Duration,
        wiped: bool,
    },
    /// A conversation is deleted through one node, and made again through another.
    Remake {
        conversation: usize,
    },
    /// A member is removed from a conversation through a node, and added again through any.
    Expel {
        slot: usize,
        client: usize,
        conversation: usize,
    },
    /// The session store and every link at once.
    RedisAway {
        time: Duration,
        wiped: bool,
    },
}

/// Something that a client does.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Send {
        conversation: usize,
    },
    /// Its socket is cut.
    Cut,
    /// Its socket is cut, and the node does not notice for this long.
    Vanish(Duration),
    /// It is not there for this long.
    Away(Duration),
    /// It does not read for this long.
    Stall(Duration),
    /// It opens another socket for its session, and after a while one more. The last one is the one that it goes on with.
    Race(Duration),
    /// It opens another socket for its session, which breaks after this long, and goes on with the one that it has.
    Falter(Duration),
    /// It types.
    Type {
        conversation: usize,
    },
    /// An operator ends its session.
    BeEnded,
    /// It goes for good.
    Quit,
}

/// What one client does, and when.
#[derive(Clone, Debug)]
pub struct Script {
    pub arrives: Duration,
    pub deeds: Vec<(Duration, Deed)>,
    /// Whether it goes where and when `draining` says.
    pub follows_draining: bool,
    /// Whether it does not come back when its node dies.
    pub gives_up: bool,
}

/// What a seed means.
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
    /// Whether conversations are deleted and made again.
    pub remakes: bool,
    pub network_ms: u64,
    pub log_ms: u64,
    /// How many connections to the database a node has for all but messages.
    pub log_connections: usize,
    /// Whether messages take the same ones.
    pub appends_share: bool,
    /// How many reads that clients ask for are under way at once, on a node.
    pub reads_at_once: usize,
    /// One call in so many to the database and the session store fails; 0: none.
    pub calls_fail_one_in: u64,
    pub inbox_items: usize,
    pub queue_bytes: usize,
    pub pipe_bytes: usize,
    pub drain: Duration,
    /// For how long a session outlives its socket.
    pub resume_window: Duration,
    /// For how long a token is good, until nothing breaks any more.
    pub token: Option<Duration>,
    /// How old a connection gets; zero: as old as it likes.
    pub connection_max_age: Duration,
    /// Whether inboxes and queues are so small that what may be lost is: presence as it is told, not as it is asked for.
    pub is_tight: bool,
    /// When nothing breaks any more and calls are answered.
    pub calm_after: Duration,
}

/// How long clients are busy, milliseconds.
const BUSY_MS: u64 = 5_000;

impl Plan {
    /// What a seed means.
    pub fn of(seed: u64) -> Plan {
        let scenario = SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
        let chance = &mut Chance::new(seed, "plan");
        let all = scenario == Scenario::Mixed;
        let rough = all || matches!(scenario, Scenario::Order | Scenario::Remakes);
        let slow = scenario == Scenario::SlowReaders || (all && chance.one_in(3));
        let nodes = chance.pick(&[2, 2, 3]);
        let conversations = chance.pick(&[1, 1, 2]);
        let mut faults = faults(scenario, nodes, chance);
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
        let mut clients: Vec<Script> =
            (0..chance.between(3, 4)).map(|_| script(scenario, conversations, slow, chance)).collect();
        if scenario == Scenario::Remakes {
            come_late(&mut faults, &mut clients, nodes, chance);
        }
        if scenario == Scenario::Races || all {
            for script in &mut clients {
                script.race(if all { 2 } else { 1 }, chance);
                if !all {
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
            inbox_items: if slow { chance.pick(&[3, 8, 65_536]) } else { 65_536 },
            queue_bytes: if slow { chance.pick(&[600, 2_000, 8_000]) } else { 256 * 1024 },
            pipe_bytes: if slow { chance.pick(&[300, 2_000]) } else { 64 * 1024 },
            is_tight: slow,
            drain: chance.millis(2_000, 5_000),
            resume_window,
            token: (moves && chance.one_in(2)).then(|| chance.millis(2_000, 6_000)),
            connection_max_age: Duration::from_secs(if moves { chance.pick(&[0, 2, 5]) } else { 0 }),
            calm_after: last.max(Duration::from_millis(BUSY_MS)),
        }
    }
}

impl Script {
    /// Has the client open several sockets at about the same time, once in so many times, and more seldom its session ended.
    fn race(&mut self, one_in: u64, chance: &mut Chance) {
        for _ in 0..chance.between(1, 4) {
            let (at, apart) = (chance.millis(500, BUSY_MS), chance.pick(&[2, 5, 20, 100, 400]));
            if chance.one_in(one_in) {
                self.deeds.push((at, Deed::Race(chance.millis(2, apart))));
            }
        }
        if chance.one_in(4 * one_in) {
            self.deeds.push((chance.millis(500, BUSY_MS), Deed::BeEnded));
        }
        self.deeds.sort_by_key(|(at, _)| *at);
    }

    /// Has the client open a few sockets that break during their resume.
    fn falter(&mut self, chance: &mut Chance) {
        for _ in 0..chance.between(1, 3) {
            let (at, after) = (chance.millis(500, BUSY_MS), chance.pick(&[2, 10, 50, 200]));
            self.deeds.push((at, Deed::Falter(chance.millis(1, after))));
        }
        self.deeds.sort_by_key(|(at, _)| *at);
    }

    /// Has the client be away once, for about as long as a session outlives its socket, or for much longer.
    fn leave_for_a_while(&mut self, resume_window: Duration, chance: &mut Chance) {
        let share = chance.pick(&[0.2, 0.9, 1.0, 1.1, 3.0]);
        let time = resume_window.min(Duration::from_secs(12)).mul_f64(share) + chance.millis(0, 6_000);
        self.deeds.push((chance.millis(500, BUSY_MS), Deed::Away(time)));
        self.deeds.sort_by_key(|(at, _)| *at);
    }
}

impl Deed {
    /// How long the client does nothing else.
    fn time(self) -> Duration {
        match self {
            Deed::Away(time) | Deed::Stall(time) => time,
            Deed::Send { .. }
            | Deed::Cut
            | Deed::Vanish(_)
            | Deed::Race(_)
            | Deed::Falter(_)
            | Deed::Type { .. }
            | Deed::BeEnded
            | Deed::Quit => Duration::ZERO,
        }
    }
}

impl Fault {
    /// How long it lasts.
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

/// Has one node stand still while conversations are made again, and its people type and read just before: what it tells of them comes when
/// another conversation has the name.
fn come_late(faults: &mut Vec<(Duration, Fault)>, clients: &mut [Script], nodes: usize, chance: &mut Chance) {
    let remakes: Vec<(Duration, usize)> = faults
        .iter()
        .filter_map(|(at, fault)| match fault {
            Fault::Remake { conversation } => Some((*at, *conversation)),
            _ => None,
        })
        .collect();
    for (at, conversation) in remakes {
        if chance.one_in(3) {
            continue;
        }
        let stops = at.saturating_sub(chance.millis(0, 150));
        let slot = chance.index(nodes);
        faults.push((stops, Fault::Freeze { slot, time: chance.millis(700, 4_000) }));
        let client = chance.index(clients.len());
        faults
            .push((stops.saturating_sub(chance.millis(0, 20)), Fault::Expel { slot, client, conversation }));
        for script in clients.iter_mut() {
            let before =
                |least: u64, most: u64, chance: &mut Chance| stops.saturating_sub(chance.millis(least, most));
            script.deeds.push((before(0, 80, chance), Deed::Send { conversation }));
            script.deeds.push((at.saturating_sub(chance.millis(0, 150)), Deed::Type { conversation }));
            // What comes late may be a read mark: the new conversation has to reach as far.
            script.deeds.push((at + chance.millis(300, 1_500), Deed::Send { conversation }));
            script.deeds.sort_by_key(|(at, _)| *at);
        }
    }
    faults.sort_by_key(|(at, _)| *at);
}

fn faults(scenario: Scenario, nodes: usize, chance: &mut Chance) -> Vec<(Duration, Fault)> {
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
            // The first one comes back in any case, so that somebody serves.
            let back = slot == 0 || chance.one_in(2);
            let back_after = back.then(|| chance.millis(100, 6_000));
            Fault::Crash { slot, back_after, same_name: chance.one_in(2) }
        }
    }
}

fn script(scenario: Scenario, conversations: usize, slow: bool, chance: &mut Chance) -> Script {
    let mut deeds = Vec::new();
    let arrives = chance.millis(0, 1_200);
    let at = |chance: &mut Chance| chance.millis(200, BUSY_MS);
    for _ in 0..chance.between(2, 9) {
        // Bursts, as people and programs make them.
        let (from, count) = (at(chance), if chance.one_in(4) { 5 } else { 1 });
        let conversation = chance.index(conversations);
        deeds.extend((0..count).map(|_| (from, Deed::Send { conversation })));
    }
    if scenario != Scenario::Crash {
        for _ in 0..chance.index(3) {
            let deed = if chance.one_in(4) { Deed::Vanish(chance.millis(100, 8_000)) } else { Deed::Cut };
            deeds.push((at(chance), deed));
        }
        if chance.one_in(5) {
            deeds.push((Duration::from_millis(BUSY_MS - 100), Deed::Quit));
        }
    }
    if slow || chance.one_in(6) {
        deeds.push((at(chance), Deed::Stall(chance.millis(100, 3_000))));
    }
    deeds.sort_by_key(|(at, _)| *at);
    Script {
        arrives,
        deeds,
        follows_draining: !chance.one_in(4),
        gives_up: scenario == Scenario::Crash && chance.one_in(3),
    }
}

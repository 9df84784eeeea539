//! What the clients of a run do.

use std::time::Duration;

use super::super::chance::Chance;
use super::BUSY_MS;
use super::scenario::Scenario;

/// Something that a client does.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// It sends a message.
    Send { conversation: usize },
    /// Its connection is cut.
    Cut,
    /// Its connection is cut, and the node does not notice for this time.
    Vanish(Duration),
    /// It stays away for this time.
    Away(Duration),
    /// It does not read for this time.
    Stall(Duration),
    /// It opens another connection for its session, and after this time one more. It continues with the last one.
    Race(Duration),
    /// It opens another connection for its session, which breaks after this time, and continues with the one that it has.
    Falter(Duration),
    /// It types.
    Type { conversation: usize },
    /// An operator ends its session.
    BeEnded,
    /// It goes for good.
    Quit,
}

/// What one client does, and when after the start.
#[derive(Clone, Debug)]
pub struct Script {
    pub arrives: Duration,
    pub deeds: Vec<(Duration, Deed)>,
    /// Whether it moves when `draining` asks it to.
    pub follows_draining: bool,
    /// Whether it goes for good when its node dies.
    pub gives_up: bool,
}

impl Deed {
    /// Returns how long the client does nothing else.
    pub(super) fn time(self) -> Duration {
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

impl Script {
    /// Lets the client race with itself, one time in `one_in`. More rarely an operator ends its session.
    pub(super) fn race(&mut self, one_in: u64, chance: &mut Chance) {
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

    /// Lets the client open a few connections that break during their resume.
    pub(super) fn falter(&mut self, chance: &mut Chance) {
        for _ in 0..chance.between(1, 3) {
            let (at, after) = (chance.millis(500, BUSY_MS), chance.pick(&[2, 10, 50, 200]));
            self.deeds.push((at, Deed::Falter(chance.millis(1, after))));
        }
        self.deeds.sort_by_key(|(at, _)| *at);
    }

    /// Lets the client stay away once, for about the resume window or for much longer.
    pub(super) fn leave_for_a_while(&mut self, resume_window: Duration, chance: &mut Chance) {
        let share = chance.pick(&[0.2, 0.9, 1.0, 1.1, 3.0]);
        let time = resume_window.min(Duration::from_secs(12)).mul_f64(share) + chance.millis(0, 6_000);
        self.deeds.push((chance.millis(500, BUSY_MS), Deed::Away(time)));
        self.deeds.sort_by_key(|(at, _)| *at);
    }
}

/// Draws the script of a client. `slow`: whether it stops reading for a while.
pub(super) fn script(scenario: Scenario, conversations: usize, slow: bool, chance: &mut Chance) -> Script {
    let mut deeds = Vec::new();
    let arrives = chance.millis(0, 1_200);
    let at = |chance: &mut Chance| chance.millis(200, BUSY_MS);
    for _ in 0..chance.between(2, 9) {
        // People and programs send in bursts.
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

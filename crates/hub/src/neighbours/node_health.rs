//! Judges whether this node serves its clients as well as any other node would.
//!
//! A deaf node still serves from the log. While every node is deaf, as when Redis is down, clients gain nothing by moving. But a node that
//! is deaf alone should get no new clients. It can't ask the others through Redis, so it asks through the database: a deaf node reports
//! there that it is deaf, and the nodes that hear each other then report that they do.

use std::time::Duration;

use parking_lot::Mutex;
use starling_conversation_store::LinkReports;
use tokio::time::Instant;

/// How often a node that is not deaf checks whether another one is.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How long a node must have been deaf before it judges by the others' reports. This is longer than another node needs to notice that it is
/// deaf, too, and than a node that hears needs to report so.
const JUDGE_AFTER: Duration = Duration::from_secs(7);
/// How long a node must have heard the others before it reports so. When Redis comes back, the nodes don't all hear each other in the same
/// second.
const HEARS_FOR: Duration = Duration::from_secs(10);
/// How recently a node must have heard its own probe to report that it hears. It sends one each second.
const PROBE_VALID_FOR: Duration = Duration::from_millis(2_500);
/// How long after the database last responded a deaf node believes that it can read the log.
const ANSWER_VALID_FOR: Duration = Duration::from_secs(10);
/// How long the report that another node hears is valid.
const REPORT_VALID_FOR: Duration = Duration::from_secs(5);

/// How well a node can serve its clients now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeHealth {
    /// It hears the other nodes, or there are none.
    Healthy,
    /// It does not hear the others, and no node is known to do better. It serves from the log.
    Degraded,
    /// It does not hear the others. Other nodes hear each other, or the node does not know yet.
    Deaf,
    /// It does not hear the others, and can't read the log either.
    CutOff,
}

impl NodeHealth {
    /// Whether this node serves clients as well as any other would.
    pub fn serves(self) -> bool {
        matches!(self, NodeHealth::Healthy | NodeHealth::Degraded)
    }
}

/// What a node knows about its own link and those of the others.
#[derive(Debug, Default)]
pub(super) struct HealthReports {
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Since when the node has heard the others without a break.
    hears_since: Option<Instant>,
    /// Since when the node has been deaf.
    deaf_since: Option<Instant>,
    /// Whether the node has ever heard the others.
    has_heard: bool,
    /// When the database last responded while the node was deaf.
    answered: Option<Instant>,
    /// When another node was last known to hear.
    others_heard: Option<Instant>,
    /// Whether another node reports that it is deaf.
    some_are_deaf: bool,
    /// When this node last asked the database.
    asked: Option<Instant>,
}

/// What a node must do about the reports in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Do nothing now.
    Nothing,
    /// Read the others' reports.
    Ask,
    /// Report whether this node hears, and read the others' reports.
    Say(bool),
}

impl HealthReports {
    /// Records whether the node hears the others, and when it last heard its own probe. Returns what it must do about the reports in the
    /// database, and notes that it does so now.
    pub fn observe(&self, now: Instant, hears: bool, probed: Option<Instant>) -> Report {
        let mut known = self.known.lock();
        let report = known.observe(now, hears, probed);
        if report != Report::Nothing {
            known.asked = Some(now);
        }
        report
    }

    /// Records the reports that the database has now.
    pub fn learn(&self, reports: LinkReports) {
        self.known.lock().learn(Instant::now(), reports);
    }

    /// Returns how well the node can serve its clients now, if it does not hear the others.
    pub fn judge(&self) -> NodeHealth {
        self.known.lock().judge(Instant::now())
    }
}

impl Known {
    /// Records whether the node hears the others. `probed`: when it last heard its own probe.
    fn observe(&mut self, now: Instant, hears: bool, probed: Option<Instant>) -> Report {
        if hears {
            self.hears_since.get_or_insert(now);
            (self.deaf_since, self.has_heard, self.answered) = (None, true, None);
        } else {
            self.deaf_since.get_or_insert(now);
            self.hears_since = None;
            return Report::Say(false);
        }
        let within = |time: Option<Instant>, limit| time.is_some_and(|time| now.duration_since(time) < limit);
        let is_sure = !within(self.hears_since, HEARS_FOR) && within(probed, PROBE_VALID_FOR);
        if self.some_are_deaf && is_sure {
            Report::Say(true)
        } else if within(self.asked, ASK_EVERY) {
            Report::Nothing
        } else {
            Report::Ask
        }
    }

    fn learn(&mut self, now: Instant, reports: LinkReports) {
        self.some_are_deaf = reports.some_are_deaf;
        if self.deaf_since.is_some() {
            self.answered = Some(now);
        }
        self.others_heard = reports.some_hear.then_some(now);
    }

    fn judge(&self, now: Instant) -> NodeHealth {
        let since = |time: Option<Instant>| time.map_or(Duration::ZERO, |time| now.duration_since(time));
        let deaf_for = since(self.deaf_since);
        let reads_the_log = match self.answered {
            Some(answered) => now.duration_since(answered) < ANSWER_VALID_FOR,
            None => self.has_heard && deaf_for < ANSWER_VALID_FOR,
        };
        let others_hear = self.others_heard.is_some() && since(self.others_heard) < REPORT_VALID_FOR;
        if deaf_for < JUDGE_AFTER {
            // A node that has heard the others serves until it knows more. A node that has just started does not serve yet.
            if self.has_heard { NodeHealth::Degraded } else { NodeHealth::Deaf }
        } else if !reads_the_log {
            NodeHealth::CutOff
        } else if others_hear {
            NodeHealth::Deaf
        } else {
            NodeHealth::Degraded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that exchange reports through a database each second, and what each knows.
    struct World {
        began: Instant,
        second: u64,
        known: Vec<Known>,
        /// The last report of each node, and when it was made.
        said: Vec<Option<(bool, u64)>>,
    }

    impl World {
        fn new(nodes: usize) -> World {
            let (known, said) = (vec![Known::default(); nodes], vec![None; nodes]);
            World { began: Instant::now(), second: 0, known, said }
        }

        fn now(&self) -> Instant {
            self.began + Duration::from_secs(self.second)
        }

        /// Lets a second pass. `hears`: whether each node hears; `database`: whether the database responds. Returns each node's health.
        fn pass(&mut self, hears: &[bool], database: bool) -> Vec<NodeHealth> {
            self.second += 1;
            let now = self.now();
            for (node, hears) in hears.iter().copied().enumerate() {
                let report = self.known[node].observe(now, hears, hears.then_some(now));
                if report == Report::Nothing || !database {
                    continue;
                }
                self.known[node].asked = Some(now);
                if let Report::Say(hears) = report {
                    self.said[node] = Some((hears, self.second));
                }
                let others = self.said.iter().enumerate().filter(|(other, _)| *other != node);
                let fresh = |wanted, seconds| {
                    others.clone().any(|(_, said)| {
                        said.is_some_and(|(hears, at)| hears == wanted && self.second - at < seconds)
                    })
                };
                let reports = LinkReports { some_hear: fresh(true, 3), some_are_deaf: fresh(false, 5) };
                self.known[node].learn(now, reports);
            }
            let health = |(node, hears): (usize, &bool)| {
                if *hears { NodeHealth::Healthy } else { self.known[node].judge(now) }
            };
            hears.iter().enumerate().map(health).collect()
        }
    }

    #[test]
    fn while_nobody_hears_everybody_keeps_serving_from_the_log() {
        let mut world = World::new(3);
        for _ in 0..20 {
            assert_eq!(world.pass(&[true; 3], true), [NodeHealth::Healthy; 3]);
        }
        // They notice it one after the other.
        for hears in [[false, true, true], [false, true, true], [false, false, true]] {
            assert!(world.pass(&hears, true).iter().all(|health| health.serves()));
        }
        for second in 0..600 {
            assert_eq!(world.pass(&[false; 3], true), [NodeHealth::Degraded; 3], "after {second} s");
        }
        // They hear again one after the other.
        for hears in [[true, false, false], [true, false, false], [true, true, false]] {
            assert!(world.pass(&hears, true).iter().all(|health| health.serves()));
        }
        assert_eq!(world.pass(&[true; 3], true), [NodeHealth::Healthy; 3]);
    }

    #[test]
    fn a_node_that_is_cut_off_alone_is_unfit_until_it_hears_again() {
        let mut world = World::new(3);
        for _ in 0..20 {
            world.pass(&[true; 3], true);
        }
        let mut unfit = Vec::new();
        for second in 0..100 {
            let nodes = world.pass(&[false, true, true], true);
            assert_eq!(nodes[1..], [NodeHealth::Healthy; 2]);
            if nodes[0] == NodeHealth::Deaf {
                unfit.push(second);
            }
        }
        assert_eq!(unfit, (7..100).collect::<Vec<_>>());
        // The others lose Redis as well, so this node is as good as they are.
        for _ in 0..10 {
            world.pass(&[false; 3], true);
        }
        assert_eq!(world.pass(&[false; 3], true), [NodeHealth::Degraded; 3]);
    }

    #[test]
    fn a_node_that_starts_deaf_takes_clients_once_it_knows_that_nobody_hears() {
        let mut alone = World::new(1);
        let nodes: Vec<NodeHealth> = (0..20).map(|_| alone.pass(&[false], true)[0]).collect();
        assert_eq!(nodes[..7], [NodeHealth::Deaf; 7]);
        assert_eq!(nodes[7..], [NodeHealth::Degraded; 13]);
        let mut world = World::new(2);
        for second in 0..40 {
            // The first node has run for long. The second one starts after twenty seconds.
            let known = world.known[1];
            let nodes = world.pass(&[true, false], true);
            if second < 20 {
                (world.known[1], world.said[1]) = (Known { deaf_since: None, ..known }, None);
            } else {
                assert_eq!(nodes, [NodeHealth::Healthy, NodeHealth::Deaf], "after {second} s");
            }
        }
    }

    #[test]
    fn a_node_without_broker_and_database_can_not_serve() {
        let mut world = World::new(1);
        for _ in 0..20 {
            world.pass(&[true], true);
        }
        let nodes: Vec<NodeHealth> = (0..20).map(|_| world.pass(&[false], false)[0]).collect();
        assert!(nodes[..7].iter().all(|health| health.serves()), "a moment is no reason");
        assert_eq!(nodes[10..], [NodeHealth::CutOff; 10]);
        assert_eq!(world.pass(&[false], true), [NodeHealth::Degraded], "the database is back");
    }
}

//! Whether this node serves its clients as well as any other node would.
//!
//! A node that does not hear the others still serves from the log. Clients need not go elsewhere for that while nobody does better,
//! as when Redis is away for all. But a node that is cut off alone should get no new clients. It can't ask the others through the
//! broker, so it asks through the database: a node that is deaf says so there, and those that hear then say that they do.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_conversation_store::LinkReports;
use tokio::time::{Instant, timeout};

use super::Neighbours;
use crate::clock::every_second;

/// How often a node that hears looks whether another one does not.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long the database may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long a node has been deaf before it judges by what the others say: longer than a node that will be deaf, too, takes to notice
/// it, and than one that hears takes to say so.
const JUDGE_AFTER: Duration = Duration::from_secs(7);
/// How long a node has heard before it says so: when the broker is back, not all hear it in the same second.
const HEARS_FOR: Duration = Duration::from_secs(10);
/// How long ago a node that says that it hears has heard its own probe, at most. It sends one each second.
const HEARD_WITHIN: Duration = Duration::from_millis(2_500);
/// How long a deaf node believes that it can read the log after the database last answered.
const LOG_WITHIN: Duration = Duration::from_secs(10);
/// How long a word that some other node hears counts.
const WORD_WITHIN: Duration = Duration::from_secs(5);

/// What a node can do for its clients now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It hears the other nodes, or there are none.
    Whole,
    /// It does not hear the others, and nobody is known to do better: it serves from the log.
    Degraded,
    /// It does not hear the others although others hear each other, or it has not found out yet.
    Deaf,
    /// It does not hear the others, and can't read the log either.
    CutOff,
}

impl Standing {
    /// Whether clients are served here as well as anywhere.
    pub fn serves(self) -> bool {
        matches!(self, Standing::Whole | Standing::Degraded)
    }
}

/// What a node knows about that.
#[derive(Debug, Default)]
pub(super) struct Standings {
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Since when the node hears the others without a break.
    hears_since: Option<Instant>,
    /// Since when it does not.
    deaf_since: Option<Instant>,
    /// It has heard the others once.
    has_heard: bool,
    /// When the database answered last, while the node was deaf.
    answered: Option<Instant>,
    /// When another node was known to hear.
    others_heard: Option<Instant>,
    /// Another node says that it is deaf.
    some_are_deaf: bool,
    /// When this node asked last.
    asked: Option<Instant>,
}

/// What a node is to do about the reports in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    /// Nothing now.
    Nothing,
    /// Read what the others say.
    Ask,
    /// Say that it hears, or that it does not, and read what the others say.
    Say(bool),
}

impl Known {
    /// Takes down whether the node hears the others. `probed`: when it last heard its own probe.
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
        let is_sure = !within(self.hears_since, HEARS_FOR) && within(probed, HEARD_WITHIN);
        if self.some_are_deaf && is_sure {
            Report::Say(true)
        } else if within(self.asked, LOOK_EVERY) {
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

    fn judge(&self, now: Instant) -> Standing {
        let since = |time: Option<Instant>| time.map_or(Duration::ZERO, |time| now.duration_since(time));
        let deaf_for = since(self.deaf_since);
        let reads_the_log = match self.answered {
            Some(answered) => now.duration_since(answered) < LOG_WITHIN,
            None => self.has_heard && deaf_for < LOG_WITHIN,
        };
        let others_hear = self.others_heard.is_some() && since(self.others_heard) < WORD_WITHIN;
        if deaf_for < JUDGE_AFTER {
            // A node that has heard keeps its place until it knows more; one that has just been started has none yet.
            if self.has_heard { Standing::Degraded } else { Standing::Deaf }
        } else if !reads_the_log {
            Standing::CutOff
        } else if others_hear {
            Standing::Deaf
        } else {
            Standing::Degraded
        }
    }
}

impl Neighbours {
    /// What this node can do for its clients now.
    pub fn standing(&self) -> Standing {
        if self.hears() { Standing::Whole } else { self.standings.known.lock().judge(Instant::now()) }
    }

    /// Finds out, while this node or another one does not hear the others, whether somebody does.
    pub(super) async fn compare_links_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.lifetime.goes_on(&mut interval).await {
            let (hears, probed, now) = (self.hears(), self.probes.heard_at(), Instant::now());
            let says = match self.standings.known.lock().observe(now, hears, probed) {
                Report::Nothing => continue,
                Report::Ask => None,
                Report::Say(hears) => Some(hears),
            };
            self.standings.known.lock().asked = Some(now);
            let answer = timeout(ANSWER_LIMIT, self.conversations.compare_links(&self.node, says)).await;
            match answer {
                Ok(Ok(reports)) => self.standings.known.lock().learn(Instant::now(), reports),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the database did not report which nodes hear each other");
                }
                Err(_) => tracing::debug!("the database did not report in time which nodes hear each other"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that look each second at what they said in a database, and how each stands.
    struct World {
        began: Instant,
        second: u64,
        known: Vec<Known>,
        /// What each said last, and when.
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

        /// A second passes in which these nodes hear, with the database there or away.
        fn pass(&mut self, hears: &[bool], database: bool) -> Vec<Standing> {
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
            let standing = |(node, hears): (usize, &bool)| {
                if *hears { Standing::Whole } else { self.known[node].judge(now) }
            };
            hears.iter().enumerate().map(standing).collect()
        }
    }

    #[test]
    fn while_nobody_hears_everybody_keeps_serving_from_the_log() {
        let mut world = World::new(3);
        for _ in 0..20 {
            assert_eq!(world.pass(&[true; 3], true), [Standing::Whole; 3]);
        }
        // They notice it one after the other.
        for hears in [[false, true, true], [false, true, true], [false, false, true]] {
            assert!(world.pass(&hears, true).iter().all(|standing| standing.serves()));
        }
        for second in 0..600 {
            assert_eq!(world.pass(&[false; 3], true), [Standing::Degraded; 3], "after {second} s");
        }
        // And they hear again one after the other.
        for hears in [[true, false, false], [true, false, false], [true, true, false]] {
            assert!(world.pass(&hears, true).iter().all(|standing| standing.serves()));
        }
        assert_eq!(world.pass(&[true; 3], true), [Standing::Whole; 3]);
    }

    #[test]
    fn a_node_that_is_cut_off_alone_is_unfit_until_it_hears_again() {
        let mut world = World::new(3);
        for _ in 0..20 {
            world.pass(&[true; 3], true);
        }
        let mut unfit = Vec::new();
        for second in 0..100 {
            let standings = world.pass(&[false, true, true], true);
            assert_eq!(standings[1..], [Standing::Whole; 2]);
            if standings[0] == Standing::Deaf {
                unfit.push(second);
            }
        }
        assert_eq!(unfit, (7..100).collect::<Vec<_>>());
        // The others lose the broker as well: now it is as good as they are.
        for _ in 0..10 {
            world.pass(&[false; 3], true);
        }
        assert_eq!(world.pass(&[false; 3], true), [Standing::Degraded; 3]);
    }

    #[test]
    fn a_node_that_starts_deaf_takes_clients_once_it_knows_that_nobody_hears() {
        let mut alone = World::new(1);
        let standings: Vec<Standing> = (0..20).map(|_| alone.pass(&[false], true)[0]).collect();
        assert_eq!(standings[..7], [Standing::Deaf; 7]);
        assert_eq!(standings[7..], [Standing::Degraded; 13]);
        let mut world = World::new(2);
        for second in 0..40 {
            // The first one has run for long; the second one is started after twenty seconds.
            let known = world.known[1];
            let standings = world.pass(&[true, false], true);
            if second < 20 {
                (world.known[1], world.said[1]) = (Known { deaf_since: None, ..known }, None);
            } else {
                assert_eq!(standings, [Standing::Whole, Standing::Deaf], "after {second} s");
            }
        }
    }

    #[test]
    fn a_node_without_broker_and_database_can_not_serve() {
        let mut world = World::new(1);
        for _ in 0..20 {
            world.pass(&[true], true);
        }
        let standings: Vec<Standing> = (0..20).map(|_| world.pass(&[false], false)[0]).collect();
        assert!(standings[..7].iter().all(|standing| standing.serves()), "a moment is no reason");
        assert_eq!(standings[10..], [Standing::CutOff; 10]);
        assert_eq!(world.pass(&[false], true), [Standing::Degraded], "the database is back");
    }
}

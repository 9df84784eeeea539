//! How many sessions the other nodes hold: for balancing, which may move clients only by what is known for certain.
//!
//! A record that is old, or that does not say, is not a node without clients. Whoever took it for one would send its own clients
//! away for nothing: after each upgrade, and whenever Redis or a node has just gone.

use std::time::Duration;

use parking_lot::Mutex;
use starling_session_store::NodeRecord;
use tokio::time::Instant;

use crate::hub::Hub;

/// How old the last answer of the session store may be. Each node asks it every second.
const FRESH: Duration = Duration::from_secs(3);
/// How long after a node came, went or began to drain nothing is compared: its clients are on their way, and those whose socket
/// dropped count where they were for ten seconds more.
const SETTLE: Duration = Duration::from_secs(30);

/// Why it is not known how many sessions the other nodes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// This node does not hear the others.
    Deaf,
    /// The session store has not answered lately.
    Stale,
    /// A node came, went or began to drain a moment ago, or this node has just found back to the others.
    Changed,
    /// A node with a lease has not been heard lately: it may be dead.
    Silent,
    /// A node does not say how many sessions it has: it runs another version.
    Unsaid,
}

impl Unsure {
    /// The same in one word, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Unsure::Deaf => "deaf",
            Unsure::Stale => "stale",
            Unsure::Changed => "changed",
            Unsure::Silent => "silent",
            Unsure::Unsaid => "unsaid",
        }
    }
}

/// When the session store last said which nodes live, and when that last changed.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    times: Mutex<Times>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    read: Option<Instant>,
    changed: Option<Instant>,
}

impl Freshness {
    /// The session store said which nodes live. `changed`: not those that lived before.
    pub fn read(&self, now: Instant, changed: bool) {
        let mut times = self.times.lock();
        let was_blind = times.read.is_none_or(|read| now.duration_since(read) > FRESH);
        if changed || was_blind {
            times.changed = Some(now);
        }
        times.read = Some(now);
    }

    /// A node has gone, or this one may have missed what the others did.
    pub fn change(&self, now: Instant) {
        self.times.lock().changed = Some(now);
    }

    /// Whether the session store has ever said which nodes live.
    pub fn is_known(&self) -> bool {
        self.times.lock().read.is_some()
    }

    fn judge(&self, now: Instant) -> Result<(), Unsure> {
        let times = *self.times.lock();
        let within = |time: Option<Instant>, limit| time.is_some_and(|time| now.duration_since(time) < limit);
        if !within(times.read, FRESH) {
            Err(Unsure::Stale)
        } else if within(times.changed, SETTLE) {
            Err(Unsure::Changed)
        } else {
            Ok(())
        }
    }
}

impl Hub {
    /// How many sessions are attached to this node.
    pub fn attached(&self) -> u64 {
        self.sessions.count() as u64
    }

    /// How many sessions each of the other nodes has, those that drain left out; or why that is not known.
    pub fn loads_of_others(&self) -> Result<Vec<u64>, Unsure> {
        let now = Instant::now();
        if !self.hears() {
            return Err(Unsure::Deaf);
        }
        self.freshness.judge(now)?;
        loads(&self.other_nodes(), |node| self.peers.is_heard(node, now))
    }

    /// How many other nodes may take this node's clients; `None` where nobody has said yet which nodes there are.
    pub fn elsewhere(&self) -> Option<usize> {
        (!self.publisher.is_clustered() || self.freshness.is_known()).then(|| self.other_nodes().len())
    }
}

fn loads(others: &[NodeRecord], is_heard: impl Fn(&str) -> bool) -> Result<Vec<u64>, Unsure> {
    let load = |record: &NodeRecord| {
        if is_heard(&record.node) { record.sessions.ok_or(Unsure::Unsaid) } else { Err(Unsure::Silent) }
    };
    others.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(node: &str, sessions: Option<u64>) -> NodeRecord {
        NodeRecord { node: node.into(), sessions, ..NodeRecord::default() }
    }

    #[test]
    fn a_node_that_is_not_heard_or_does_not_say_is_not_an_empty_one() {
        let (full, empty, old) = (record("full", Some(90)), record("empty", Some(0)), record("old", None));
        let all = |_: &str| true;
        assert_eq!(loads(&[full.clone(), empty.clone()], all), Ok(vec![90, 0]));
        assert_eq!(loads(&[full.clone(), old], all), Err(Unsure::Unsaid));
        assert_eq!(loads(&[full, empty], |node| node != "empty"), Err(Unsure::Silent));
        assert_eq!(loads(&[], all), Ok(vec![]));
    }

    #[test]
    fn the_nodes_are_known_while_the_store_answers_and_once_they_have_settled() {
        let (freshness, began) = (Freshness::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        assert!(!freshness.is_known());
        assert_eq!(freshness.judge(began), Err(Unsure::Stale), "nobody has said anything");
        for second in 0..=40 {
            freshness.read(after(second), false);
            let expected = if second < 30 { Err(Unsure::Changed) } else { Ok(()) };
            assert_eq!(freshness.judge(after(second)), expected, "after {second} s");
        }
        assert!(freshness.is_known());
        assert_eq!(freshness.judge(after(42)), Ok(()));
        assert_eq!(freshness.judge(after(43)), Err(Unsure::Stale));
        freshness.read(after(44), false);
        assert_eq!(freshness.judge(after(44)), Err(Unsure::Changed), "it was blind for a while");
        for second in 45..=100 {
            freshness.read(after(second), second == 75);
        }
        assert_eq!(freshness.judge(after(100)), Err(Unsure::Changed), "a node came at 75 s");
        freshness.read(after(105), false);
        freshness.read(after(106), false);
        freshness.change(after(90));
        assert_eq!(freshness.judge(after(106)), Err(Unsure::Changed));
    }
}

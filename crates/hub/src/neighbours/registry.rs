//! The nodes with a lease, as the session store last listed them, and how certain that list is.

use std::time::Duration;

use parking_lot::Mutex;
use starling_session_store::NodeRecord;
use tokio::time::Instant;

use super::changes::Changes;

/// Maximum age of the session store's last list. Each node asks for it every second.
const FRESH: Duration = Duration::from_secs(3);

/// The nodes with a lease, as the session store last listed them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// All nodes, this one included, sorted by name.
    nodes: Vec<NodeRecord>,
    freshness: Freshness,
}

/// When the session store last listed the nodes, and when the list last changed.
#[derive(Clone, Copy, Debug, Default)]
struct Freshness {
    read: Option<Instant>,
    changed: Option<Instant>,
}

/// Why the number of sessions on the other nodes is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadsUnknown {
    /// This node does not hear the others.
    Deaf,
    /// The session store has not responded lately.
    Stale,
    /// A node came, went or began to drain a moment ago, or this node has just begun to hear the others again.
    Changed,
    /// A node with a lease has not been heard lately and may be dead.
    Silent,
    /// A node does not report its number of sessions, since it runs another version.
    Unreported,
}

impl LoadsUnknown {
    /// Returns the reason as one word, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            LoadsUnknown::Deaf => "deaf",
            LoadsUnknown::Stale => "stale",
            LoadsUnknown::Changed => "changed",
            LoadsUnknown::Silent => "silent",
            LoadsUnknown::Unreported => "unsaid",
        }
    }
}

impl Registry {
    /// Stores the list of living nodes, and returns the names of those that no longer live. With `has_left`, which says whether a node has
    /// left by itself, the changes are logged.
    pub fn learn(
        &self,
        mut living: Vec<NodeRecord>,
        now: Instant,
        has_left: Option<&dyn Fn(&str) -> bool>,
    ) -> Vec<String> {
        living.sort_by(|a, b| a.node.cmp(&b.node));
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.nodes, living);
        let nodes = &inner.nodes;
        // The first beat finds every node, so it shows no changes.
        if let Some(has_left) = has_left.filter(|_| !before.is_empty()) {
            Changes::between(&before, nodes, has_left).log();
        }
        let is_as_before =
            |(old, new): (&NodeRecord, &NodeRecord)| old.node == new.node && old.draining == new.draining;
        let has_changed = before.len() != nodes.len() || !before.iter().zip(nodes).all(is_as_before);
        let lives = |old: &NodeRecord| nodes.iter().any(|new| new.node == old.node);
        let died = before.iter().filter(|old| !lives(old)).map(|old| old.node.clone()).collect();
        inner.freshness.read(now, has_changed);
        died
    }

    /// Removes a node that has left. `false`: it was not known.
    pub fn remove(&self, node: &str) -> bool {
        let mut inner = self.inner.lock();
        let before = inner.nodes.len();
        inner.nodes.retain(|record| record.node != node);
        inner.freshness.changed = Some(Instant::now());
        inner.nodes.len() < before
    }

    /// Makes loads count as unknown for a while, since this node may have missed changes of the others.
    pub fn note_change(&self) {
        self.inner.lock().freshness.changed = Some(Instant::now());
    }

    /// Returns all nodes except this one.
    pub fn others(&self, node: &str) -> Vec<NodeRecord> {
        self.inner.lock().nodes.iter().filter(|record| record.node != node).cloned().collect()
    }

    /// Whether the session store has ever listed the nodes.
    pub fn is_known(&self) -> bool {
        self.inner.lock().freshness.read.is_some()
    }

    /// Checks whether the list is certain enough to compare loads: it is fresh and has not changed for `settle`.
    pub fn judge(&self, now: Instant, settle: Duration) -> Result<(), LoadsUnknown> {
        self.inner.lock().freshness.judge(now, settle)
    }
}

impl Freshness {
    /// Notes that the session store listed the nodes. `has_changed`: the list differs from the one before.
    fn read(&mut self, now: Instant, has_changed: bool) {
        let was_blind = self.read.is_none_or(|read| now.duration_since(read) > FRESH);
        if has_changed || was_blind {
            self.changed = Some(now);
        }
        self.read = Some(now);
    }

    fn judge(&self, now: Instant, settle: Duration) -> Result<(), LoadsUnknown> {
        let within = |time: Option<Instant>, limit| time.is_some_and(|time| now.duration_since(time) < limit);
        if !within(self.read, FRESH) {
            Err(LoadsUnknown::Stale)
        } else if within(self.changed, settle) {
            Err(LoadsUnknown::Changed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(30);

    #[test]
    fn the_nodes_are_known_while_the_store_answers_and_once_they_have_settled() {
        let (mut freshness, began) = (Freshness::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        assert_eq!(freshness.judge(began, SETTLE), Err(LoadsUnknown::Stale), "nobody has said anything");
        for second in 0..=40 {
            freshness.read(after(second), false);
            let expected = if second < 30 { Err(LoadsUnknown::Changed) } else { Ok(()) };
            assert_eq!(freshness.judge(after(second), SETTLE), expected, "after {second} s");
        }
        assert_eq!(freshness.judge(after(42), SETTLE), Ok(()));
        assert_eq!(freshness.judge(after(43), SETTLE), Err(LoadsUnknown::Stale));
        freshness.read(after(44), false);
        assert_eq!(
            freshness.judge(after(44), SETTLE),
            Err(LoadsUnknown::Changed),
            "it was blind for a while"
        );
        for second in 45..=100 {
            freshness.read(after(second), second == 75);
        }
        assert_eq!(freshness.judge(after(100), SETTLE), Err(LoadsUnknown::Changed), "a node came at 75 s");
        freshness.read(after(105), false);
        freshness.read(after(106), false);
        freshness.changed = Some(after(90));
        assert_eq!(freshness.judge(after(106), SETTLE), Err(LoadsUnknown::Changed));
    }

    #[test]
    fn nodes_whose_lease_is_gone_have_died_and_those_that_took_leave_are_removed() {
        let registry = Registry::default();
        let record = |node: &str| NodeRecord { node: node.to_owned(), ..NodeRecord::default() };
        assert!(!registry.is_known());
        let learn = |nodes: &[&str]| {
            registry.learn(nodes.iter().map(|node| record(node)).collect(), Instant::now(), None)
        };
        assert!(learn(&["b", "a", "c"]).is_empty());
        assert_eq!(learn(&["c", "a"]), ["b"]);
        assert!(registry.remove("c") && !registry.remove("c"));
        assert!(learn(&["a"]).is_empty(), "it had taken leave");
        assert!(registry.is_known() && registry.others("a").is_empty());
    }
}

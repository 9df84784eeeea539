//! The number of sessions on each of the other nodes. Balancing may move clients only if these numbers are certain.
//!
//! A record that is old, or has no number, must not count as a node without clients. Otherwise nodes would move clients for nothing: after
//! each upgrade, and whenever Redis or a node has just failed.

use std::time::Duration;

use starling_session_store::NodeRecord;
use tokio::time::Instant;

use super::Neighbours;
use super::registry::LoadsUnknown;

impl Neighbours {
    /// Returns the number of sessions on each of the other nodes, except those that drain. They are unknown for `settle` after a node came,
    /// went or began to drain.
    pub fn loads(&self, settle: Duration) -> Result<Vec<u64>, LoadsUnknown> {
        let now = Instant::now();
        if !self.hears() {
            return Err(LoadsUnknown::Deaf);
        }
        self.registry.judge(now, settle)?;
        loads(&self.serving(), |node| self.peers.is_heard(node, now))
    }

    /// Returns the number of other nodes that may take this node's clients. `None`: the session store has not yet reported which nodes
    /// there are.
    pub fn serving_count(&self) -> Option<usize> {
        (!self.publisher.is_clustered() || self.registry.is_known()).then(|| self.serving().len())
    }
}

fn loads(others: &[NodeRecord], is_heard: impl Fn(&str) -> bool) -> Result<Vec<u64>, LoadsUnknown> {
    let load = |record: &NodeRecord| {
        if is_heard(&record.node) {
            record.sessions.ok_or(LoadsUnknown::Unreported)
        } else {
            Err(LoadsUnknown::Silent)
        }
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
        assert_eq!(loads(&[full.clone(), old], all), Err(LoadsUnknown::Unreported));
        assert_eq!(loads(&[full, empty], |node| node != "empty"), Err(LoadsUnknown::Silent));
        assert_eq!(loads(&[], all), Ok(vec![]));
    }
}

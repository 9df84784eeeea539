//! Logs changes of the other nodes: which ones joined, left or died.

use starling_session_store::NodeRecord;

use crate::HubConfig;

/// The differences between two lists of living nodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes<'a> {
    joined: Vec<&'a NodeRecord>,
    /// Nodes that drained, and whose leases were given back or expired.
    left: Vec<&'a NodeRecord>,
    /// Nodes whose leases expired although they did not drain.
    died: Vec<&'a NodeRecord>,
}

impl<'a> Changes<'a> {
    /// Compares two lists of nodes. Nodes that have said that they leave are left out, since that was logged when they said it.
    pub fn between(
        before: &'a [NodeRecord],
        now: &'a [NodeRecord],
        has_left: impl Fn(&str) -> bool,
    ) -> Changes<'a> {
        let is_only_in = |list: &'a [NodeRecord], other: &'a [NodeRecord]| {
            let is_in_other = |record: &NodeRecord| other.iter().any(|found| found.node == record.node);
            list.iter().filter(move |record| !is_in_other(record))
        };
        let joined = is_only_in(now, before).filter(|record| !has_left(&record.node)).collect();
        let gone = is_only_in(before, now).filter(|record| !has_left(&record.node));
        let (left, died) = gone.partition(|record| record.draining);
        Changes { joined, left, died }
    }

    /// Logs one line per node.
    pub fn log(&self) {
        for record in &self.joined {
            let (peer, address) = (HubConfig::node_of(&record.node), record.address.as_deref());
            tracing::info!(peer, address, version = record.version, "a node has joined the cluster");
        }
        for record in &self.left {
            log_left(&record.node);
        }
        for record in &self.died {
            let peer = HubConfig::node_of(&record.node);
            tracing::warn!(
                peer,
                sessions = record.sessions,
                "a node has died without a drain: its lease has expired, and its clients resume on other nodes"
            );
        }
    }
}

/// Logs that a node has left after a drain.
pub(super) fn log_left(node: &str) {
    tracing::info!(peer = HubConfig::node_of(node), "a node has left the cluster");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(node: &str, draining: bool) -> NodeRecord {
        NodeRecord { node: node.to_owned(), draining, ..NodeRecord::default() }
    }

    #[test]
    fn a_node_that_did_not_drain_has_died() {
        let before = [record("a", false), record("b", true), record("c", false), record("said", false)];
        let now = [record("c", false), record("d", false), record("says", false)];
        let changes = Changes::between(&before, &now, |node| node.starts_with("sa"));
        let names =
            |records: &[&NodeRecord]| records.iter().map(|record| record.node.clone()).collect::<Vec<_>>();
        assert_eq!(names(&changes.joined), ["d"]);
        assert_eq!(names(&changes.left), ["b"]);
        assert_eq!(names(&changes.died), ["a"]);
    }
}

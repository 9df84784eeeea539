//! How many sessions the other nodes hold: for balancing, which may move clients only by what is known for certain.
//!
//! A record that is old, or that does not say, is not a node without clients. Whoever took it for one would send its own clients
//! away for nothing: after each upgrade, and whenever Redis or a node has just gone.

use starling_session_store::NodeRecord;
use tokio::time::Instant;

use super::Neighbours;

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

impl Neighbours {
    /// How many sessions each of the other nodes has, those that drain left out; or why that is not known.
    pub fn loads(&self) -> Result<Vec<u64>, Unsure> {
        let now = Instant::now();
        if !self.hears() {
            return Err(Unsure::Deaf);
        }
        self.registry.judge(now)?;
        loads(&self.serving(), |node| self.peers.is_heard(node, now))
    }

    /// How many other nodes may take this node's clients; `None` where nobody has said yet which nodes there are.
    pub fn serving_count(&self) -> Option<usize> {
        (!self.publisher.is_clustered() || self.registry.is_known()).then(|| self.serving().len())
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
}

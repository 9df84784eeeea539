//! The nodes and their leases.

use std::collections::HashMap;

use crate::NodeRecord;

/// How long a dead node's last beat is remembered, milliseconds: longer than any resume window.
const REMEMBER_MS: i64 = 24 * 60 * 60 * 1000;

/// The nodes that sent a beat lately.
#[derive(Debug)]
pub(super) struct Leases {
    lease_ms: i64,
    nodes: HashMap<String, Lease>,
}

#[derive(Debug)]
struct Lease {
    record: NodeRecord,
    /// Time of the last beat, or of the node's leave.
    last_ms: i64,
    left: bool,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    Living,
    /// The node is dead; its last beat was at this time.
    Dead(i64),
    /// No beat of the node is known.
    Unknown,
}

impl Leases {
    pub(super) fn new(lease_ms: u64) -> Self {
        Self { lease_ms: i64::try_from(lease_ms).unwrap_or(i64::MAX), nodes: HashMap::new() }
    }

    /// Renews a lease. Returns whether the node had none.
    pub(super) fn beat(&mut self, record: &NodeRecord, now_ms: i64) -> bool {
        let lost = self.state_of(&record.node, now_ms) != NodeState::Living;
        let lease = Lease { record: record.clone(), last_ms: now_ms, left: false };
        self.nodes.insert(record.node.clone(), lease);
        lost
    }

    pub(super) fn leave(&mut self, node: &str, now_ms: i64) {
        if let Some(lease) = self.nodes.get_mut(node).filter(|lease| !lease.left) {
            lease.left = true;
            lease.last_ms = now_ms;
        }
    }

    pub(super) fn living(&self, now_ms: i64) -> Vec<NodeRecord> {
        let living = self.nodes.values().filter(|lease| lease.lives(self.lease_ms, now_ms));
        let mut records: Vec<_> = living.map(|lease| lease.record.clone()).collect();
        records.sort_by(|a, b| a.node.cmp(&b.node));
        records
    }

    pub(super) fn state_of(&self, node: &str, now_ms: i64) -> NodeState {
        match self.nodes.get(node) {
            Some(lease) if lease.lives(self.lease_ms, now_ms) => NodeState::Living,
            Some(lease) => NodeState::Dead(lease.last_ms),
            None => NodeState::Unknown,
        }
    }

    pub(super) fn lives(&self, node: &str, now_ms: i64) -> bool {
        self.state_of(node, now_ms) == NodeState::Living
    }

    /// Drops nodes that died so long ago that nobody asks any more, and answers their names.
    pub(super) fn forget_long_dead(&mut self, now_ms: i64) -> Vec<String> {
        let mut forgotten = Vec::new();
        self.nodes.retain(|node, lease| {
            let keep = lease.last_ms.saturating_add(REMEMBER_MS) > now_ms;
            if !keep {
                forgotten.push(node.clone());
            }
            keep
        });
        forgotten
    }
}

impl Lease {
    fn lives(&self, lease_ms: i64, now_ms: i64) -> bool {
        !self.left && self.last_ms.saturating_add(lease_ms) > now_ms
    }
}

//! What the other nodes are interested in, as far as they have told.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_session_store::NodeRecord;
use tokio::time::Instant;

use super::InterestMessage;
use super::learned::Learned;
use super::router::Router;
use super::table::Table;
use crate::Set;

/// What the other nodes are interested in.
#[derive(Default)]
pub(crate) struct OtherNodes {
    table: Mutex<Table>,
}

impl OtherNodes {
    /// Learns which nodes have a lease. Those that take no clients, and this node, `own`, are left out.
    pub fn list(&self, living: &[NodeRecord], own: &str, now: Instant) {
        let wanted = |record: &&NodeRecord| !record.worker_only && record.node != own;
        let living: Set<&str> = living.iter().filter(wanted).map(|record| record.node.as_str()).collect();
        self.table.lock().list(&living, now);
    }

    /// Notes that a node is there. Unless it tells its interest, everything goes to everyone.
    pub fn expect(&self, node: &Arc<str>, now: Instant) {
        self.table.lock().expect(node, now);
    }

    /// Learns from another node's message.
    pub fn hear(&self, message: InterestMessage, now: Instant) -> Learned {
        let InterestMessage { node, version, told } = message;
        self.table.lock().hear(&node, version, told, now)
    }

    /// Forgets a node that has left.
    pub fn leave(&self, node: &str) {
        self.table.lock().leave(node);
    }

    /// Doubts everything until the nodes' next beats confirm it, because messages may have been missed.
    pub fn doubt(&self) {
        self.table.lock().doubt();
    }

    /// Returns what finds the nodes that publications are for.
    pub fn router(&self, now: Instant) -> Router<'_> {
        Router::new(self.table.lock(), now)
    }

    /// Whether each node's interest is known, or nothing is sent past a node at all. Otherwise what is sent past a node may be wanted much
    /// later.
    pub fn is_certain(&self, now: Instant) -> bool {
        self.table.lock().is_certain(now)
    }

    /// Returns the number of pairs of a conversation and a node that are known, and the number of nodes of which not everything is known.
    pub fn sizes(&self, now: Instant) -> (usize, usize) {
        self.table.lock().sizes(now)
    }
}

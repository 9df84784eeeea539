//! Which nodes a publication is for.

use parking_lot::MutexGuard;
use starling_fanout::Destination;
use tokio::time::Instant;

use super::InterestKey;
use super::nodes::NodeId;
use super::table::{Always, Table};

/// If at most this many nodes, or half of the others, want a publication, it is sent to these alone.
const FEW: usize = 2;

/// Finds the nodes that publications are for. Nothing can be learned meanwhile.
pub(crate) struct Router<'a> {
    table: MutexGuard<'a, Table>,
    always: Always,
    /// The last answer. Publications about one conversation often follow one another.
    last: Option<(InterestKey, Destination)>,
}

impl<'a> Router<'a> {
    pub(super) fn new(table: MutexGuard<'a, Table>, now: Instant) -> Self {
        let always = table.always(now);
        Router { table, always, last: None }
    }

    /// Returns the nodes that a publication about this conversation is for.
    pub fn route(&mut self, key: InterestKey) -> Destination {
        let Always { everyone, nodes: always, count } = &self.always;
        if *everyone {
            return Destination::Everyone;
        }
        if let Some((_, destination)) = self.last.as_ref().filter(|(last, _)| *last == key) {
            return destination.clone();
        }
        let more = self.table.interested(key).iter().filter(|id| !always.contains(id));
        let ids: Vec<NodeId> = always.iter().chain(more).copied().collect();
        let is_for_all = *count > 0 && ids.len() == *count;
        let destination = if is_for_all || ids.len() > FEW.max(count / 2) {
            Destination::Everyone
        } else {
            Destination::Nodes(ids.iter().filter_map(|id| self.table.name(*id)).collect())
        };
        self.last = Some((key, destination.clone()));
        destination
    }
}

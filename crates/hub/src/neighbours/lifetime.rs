//! How long a node takes part in the cluster: loops that speak for it end when it takes leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Interval;

/// Whether a node still takes part in the cluster. Clones are of the same node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifetime {
    ended: Arc<AtomicBool>,
}

impl Lifetime {
    /// Waits for the next turn of a loop. `false`: the node has taken leave, and there is none.
    pub async fn goes_on(&self, interval: &mut Interval) -> bool {
        interval.tick().await;
        !self.has_ended()
    }

    /// Whether the node has taken leave of the others: it says nothing more of itself.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The node takes leave of the others.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

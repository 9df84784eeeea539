//! Tells the loops that speak for a node when it leaves the cluster, so that they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Interval;

/// Whether a node still takes part in the cluster. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifetime {
    ended: Arc<AtomicBool>,
}

impl Lifetime {
    /// Waits for the next turn of a loop. `false`: the node has left, and the loop must end.
    pub async fn next_tick(&self, interval: &mut Interval) -> bool {
        interval.tick().await;
        !self.has_ended()
    }

    /// Whether the node has left the cluster. It must tell the other nodes nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends the node's part in the cluster.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

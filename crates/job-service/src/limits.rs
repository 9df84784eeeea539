//! The limits of queues, as far as a node knows them.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use starling_jobs::QueueLimits;

/// The limits of all queues that have some: those of a few seconds ago. Claims ask the database; this says whom to tell when a job ends.
#[derive(Default)]
pub(crate) struct KnownLimits(RwLock<BTreeMap<String, QueueLimits>>);

impl KnownLimits {
    /// Whether no queue has limits.
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// Whether a queue has limits.
    pub fn has(&self, queue: &str) -> bool {
        self.0.read().contains_key(queue)
    }

    /// Whether a rate holds for a queue.
    pub fn has_rate(&self, queue: &str) -> bool {
        self.0.read().get(queue).is_some_and(QueueLimits::has_rate)
    }

    /// Records the limits of a queue.
    pub fn put(&self, queue: &str, limits: QueueLimits) {
        self.0.write().insert(queue.to_owned(), limits);
    }

    /// Records that a queue has no limits any more.
    pub fn remove(&self, queue: &str) {
        self.0.write().remove(queue);
    }

    /// Records the limits of all queues.
    pub fn replace(&self, limits: BTreeMap<String, QueueLimits>) {
        *self.0.write() = limits;
    }
}

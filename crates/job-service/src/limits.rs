//! Limits of queues: setting them, and telling workers when they let another job begin.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use starling_jobs::{Error, QueueLimits};

use crate::JobService;

/// The limits of all queues, as far as this node knows: those of a few seconds ago. Claims ask the database; this says whom to tell when a job ends.
#[derive(Default)]
pub(crate) struct KnownLimits(RwLock<BTreeMap<String, QueueLimits>>);

impl KnownLimits {
    fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    fn has(&self, queue: &str) -> bool {
        self.0.read().contains_key(queue)
    }

    /// Whether a rate holds for a queue.
    pub fn has_rate(&self, queue: &str) -> bool {
        self.0.read().get(queue).is_some_and(QueueLimits::has_rate)
    }
}

impl JobService {
    /// Sets the limits of a queue, which must have passed [`QueueLimits::check`]. Returns false if too many other queues have limits.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_limits(&self, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
        let is_kept = self.store.put_limits(queue, limits).await?;
        if is_kept {
            self.limits.0.write().insert(queue.to_owned(), *limits);
            self.note_place(queue);
        }
        Ok(is_kept)
    }

    /// Removes the limits of a queue. Returns whether there were any.
    ///
    /// # Errors
    /// Those of the store. Some of the jobs that waited for a place may still wait; another call goes on.
    pub async fn remove_limits(&self, queue: &str) -> Result<bool, Error> {
        let were_there = self.store.remove_limits(queue).await?;
        self.note_place(queue);
        self.limits.0.write().remove(queue);
        Ok(were_there)
    }

    /// Returns the limits of all queues that have some, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn limits(&self) -> Result<Vec<(String, QueueLimits)>, Error> {
        self.store.limits().await
    }

    /// Records that a job of a queue has ended. If the queue has limits, another one may begin, here or elsewhere.
    pub(crate) fn note_ended(&self, queue: &str) {
        if self.limits.has(queue) {
            self.note_place(queue);
        }
    }

    /// Records that jobs have ended, of any queue, here or elsewhere.
    pub(crate) fn note_ended_somewhere(&self) {
        if !self.limits.is_empty() {
            self.ready.note_ended_elsewhere();
        }
    }

    fn note_place(&self, queue: &str) {
        self.ready.note_ended(queue);
        self.note_ready();
    }

    /// Learns which queues have limits, and removes what limits do not need any more.
    pub(crate) async fn keep_limits(&self) -> Result<(), Error> {
        let limits: BTreeMap<String, QueueLimits> = self.store.limits().await?.into_iter().collect();
        let is_empty = limits.is_empty();
        *self.limits.0.write() = limits;
        if is_empty { Ok(()) } else { self.store.tidy_limits().await }
    }
}

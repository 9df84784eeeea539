//! What the parts of the service tell one another: that jobs are ready, that others have ended, and that the node leaves.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::limits::KnownLimits;
use crate::metrics::METRICS;
use crate::ready::Ready;

/// The notices between the parts of a node's service.
pub(crate) struct Notices {
    ready: Arc<Ready>,
    limits: KnownLimits,
    /// Jobs may have become ready.
    refresh: Notify,
    /// This node has made jobs ready, of which the others have not been told.
    others: Notify,
    /// The node's own worker may have something to do.
    work: Notify,
    draining: watch::Sender<bool>,
}

impl Notices {
    pub fn new(ready: Arc<Ready>) -> Self {
        Self {
            ready,
            limits: KnownLimits::default(),
            refresh: Notify::new(),
            others: Notify::new(),
            work: Notify::new(),
            draining: watch::channel(false).0,
        }
    }

    /// The limits of queues, as far as this node knows.
    pub fn limits(&self) -> &KnownLimits {
        &self.limits
    }

    /// Records that this node has made jobs ready.
    pub fn note_ready(&self) {
        self.refresh.notify_one();
        self.others.notify_one();
    }

    /// Records that another node has made jobs ready, or has ended some of a queue with limits.
    pub fn hear_ready(&self) {
        self.note_ended_somewhere();
        self.refresh.notify_one();
    }

    /// Records that a job of a queue has ended. If the queue has limits, another one may begin, here or elsewhere.
    pub fn note_ended(&self, queue: &str) {
        if self.limits.has(queue) {
            self.note_place(queue);
        }
    }

    /// Records that jobs have ended, of any queue, here or elsewhere.
    pub fn note_ended_somewhere(&self) {
        if !self.limits.is_empty() {
            self.ready.note_ended_elsewhere();
        }
    }

    /// Records that the limits of a queue may let another job begin.
    pub fn note_place(&self, queue: &str) {
        self.ready.note_ended(queue);
        self.note_ready();
    }

    /// Records attempts that were lost, whose jobs are ready again.
    pub fn note_lost(&self, attempts: u64) {
        if attempts > 0 {
            METRICS.lost.increment(attempts);
            self.note_ended_somewhere();
            self.note_ready();
        }
    }

    /// Records that the node's own worker may have something to do.
    pub fn note_work(&self) {
        self.work.notify_one();
    }

    /// Records that the node leaves.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.work.notify_one();
    }

    /// Whether the node leaves.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns when the node has begun to leave.
    pub async fn drain_begun(&self) {
        // An error would say that the sender is gone, which is a part of this.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Returns when jobs may have become ready since the last return.
    pub async fn refresh_wanted(&self) {
        self.refresh.notified().await;
    }

    /// Returns when this node has made jobs ready since the last return, so that the others are to be told.
    pub async fn others_wait(&self) {
        self.others.notified().await;
    }

    /// Returns when the node's own worker may have something to do.
    pub async fn work_wanted(&self) {
        self.work.notified().await;
    }
}

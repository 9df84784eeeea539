//! Workers that wait for jobs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::TenantName;
use tokio::sync::Notify;

use crate::metrics::METRICS;

/// A queue of a tenant.
pub(crate) type TenantQueue = (TenantName, String);

/// Workers that wait, by the queue of their tenant. Each has an open request, so their number is limited by that of connections.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TenantQueue, Waiting>>);

struct Waiting {
    notify: Arc<Notify>,
    workers: usize,
}

impl Waiters {
    /// Counts a worker as waiting until the guard is dropped.
    pub fn enter(self: &Arc<Self>, queue: TenantQueue) -> Waiter {
        let mut queues = self.0.lock();
        let waiting =
            queues.entry(queue.clone()).or_insert_with(|| Waiting { notify: Arc::default(), workers: 0 });
        waiting.workers += 1;
        METRICS.waiting_workers.increment(1.0);
        Waiter { waiters: self.clone(), notify: waiting.notify.clone(), queue }
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Wakes one worker of each queue that `has_jobs`. It wakes the next one if jobs are left.
    pub fn wake(&self, has_jobs: impl Fn(&TenantQueue) -> bool) {
        let queues = self.0.lock();
        queues
            .iter()
            .filter(|(queue, _)| has_jobs(queue))
            .for_each(|(_, waiting)| waiting.notify.notify_one());
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.0.lock().values().for_each(|waiting| waiting.notify.notify_waiters());
    }
}

/// A worker that waits.
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    notify: Arc<Notify>,
    queue: TenantQueue,
}

impl Waiter {
    /// Notified when the queue may have jobs.
    pub fn notify(&self) -> &Notify {
        &self.notify
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        METRICS.waiting_workers.decrement(1.0);
        let mut queues = self.waiters.0.lock();
        let Entry::Occupied(mut waiting) = queues.entry(self.queue.clone()) else { return };
        waiting.get_mut().workers -= 1;
        if waiting.get().workers == 0 {
            waiting.remove();
        } else {
            // It may have been woken and not have looked.
            waiting.get().notify.notify_one();
        }
    }
}

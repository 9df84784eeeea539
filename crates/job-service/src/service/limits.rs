//! The limits of queues: setting, removing and listing them.

use starling_jobs::{Error, QueueLimits};

use super::JobService;

impl JobService {
    /// Sets the limits of a queue, which must have passed [`QueueLimits::check`]. Returns false if too many other queues have limits.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_limits(&self, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
        let is_kept = self.store.put_limits(queue, limits).await?;
        if is_kept {
            self.notices.limits().put(queue, *limits);
            self.notices.note_place(queue);
        }
        Ok(is_kept)
    }

    /// Removes the limits of a queue. Returns whether there were any.
    ///
    /// # Errors
    /// Those of the store. Some of the jobs that waited for a place may still wait; another call goes on.
    pub async fn remove_limits(&self, queue: &str) -> Result<bool, Error> {
        let were_there = self.store.remove_limits(queue).await?;
        self.notices.note_place(queue);
        self.notices.limits().remove(queue);
        Ok(were_there)
    }

    /// Returns the limits of all queues that have some, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn limits(&self) -> Result<Vec<(String, QueueLimits)>, Error> {
        self.store.limits().await
    }
}

//! Where messages go that have become jobs.

use async_trait::async_trait;
use starling_job_service::JobService;
use starling_jobs::{Enqueued, Error, NewJob};

/// Takes jobs.
#[async_trait]
pub trait JobSink: Send + Sync + 'static {
    /// Adds jobs in one transaction, and answers in their order after its commit. May be called again with the same jobs after an error:
    /// none is added twice.
    async fn add(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error>;
}

#[async_trait]
impl JobSink for JobService {
    async fn add(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        self.enqueue_all(jobs).await
    }
}

//! Bridges to RabbitMQ that say something is safe before it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_job_service::jobs::{ClaimedJob, Enqueued, Error, NewJob};
use starling_job_service::{Handler, Report, Stop};
use starling_rabbitmq_bridge::JobSink;

/// How long what was called safe is not: time enough for a kill.
const GAP: Duration = Duration::from_millis(400);

/// Says that jobs are committed, and commits them a little later.
pub struct EarlySink {
    inner: Arc<dyn JobSink>,
}

impl EarlySink {
    pub fn new(inner: Arc<dyn JobSink>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl JobSink for EarlySink {
    async fn add(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        let (inner, later) = (self.inner.clone(), jobs.to_vec());
        tokio::spawn(async move {
            tokio::time::sleep(GAP).await;
            let _ = inner.add(&later).await;
        });
        Ok(jobs.iter().map(|job| Enqueued { job: job.id, added: true }).collect())
    }
}

/// Says that a job is done, and does it a little later.
pub struct EarlyHandler {
    inner: Arc<dyn Handler>,
}

impl EarlyHandler {
    pub fn new(inner: Arc<dyn Handler>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl Handler for EarlyHandler {
    async fn run(&self, job: &ClaimedJob, stop: Stop) -> Report {
        let (inner, job) = (self.inner.clone(), job.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GAP).await;
            inner.run(&job, stop).await
        });
        Report::Done(None)
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }
}

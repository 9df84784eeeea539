//! Gives jobs to workers outside.

use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{Claimant, ClaimedJob, Ending, Error, Outcome};
use starling_model::TenantName;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::JobService;
use crate::metrics::METRICS;
use crate::service::now_ms;

/// What a worker outside asks for.
#[derive(Clone, Debug)]
pub struct Take {
    /// The worker's tenant.
    pub tenant: TenantName,
    /// The queue.
    pub queue: String,
    /// The most jobs.
    pub jobs_max: u16,
    /// How long to wait while there is no job.
    pub wait: Duration,
    /// How long the worker has the jobs, unless it extends that.
    pub lease: Duration,
    /// The worker's name.
    pub worker: String,
}

impl JobService {
    /// Returns jobs of a queue, which the worker has for the time of its lease. Waits while there are none, and returns none after the wait, or
    /// when the node drains.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take(self: &Arc<Self>, take: Take) -> Result<Vec<ClaimedJob>, Error> {
        let deadline = Instant::now() + take.wait;
        let known = self.claim(&take).await?;
        if !known.is_empty() {
            return Ok(known);
        }
        let waiter = self.waiters.enter((take.tenant.clone(), take.queue.clone()));
        // From here on this worker hears of new jobs. Earlier ones may not be known yet.
        let mut woken = waiter.notify().notified();
        self.ready.refresh().await?;
        self.ready.note_waiting(&take.tenant, &take.queue);
        loop {
            let jobs = self.claim(&take).await?;
            if !jobs.is_empty() {
                if self.ready.has(&take.tenant, &take.queue) {
                    waiter.notify().notify_one();
                }
                return Ok(jobs);
            }
            if self.is_draining() || timeout_at(deadline, woken).await.is_err() {
                return Ok(jobs);
            }
            woken = waiter.notify().notified();
        }
    }

    /// Claims jobs to the end, even if the worker has gone: then nobody would know of them until their lease is over.
    async fn claim(self: &Arc<Self>, take: &Take) -> Result<Vec<ClaimedJob>, Error> {
        if !self.ready.has(&take.tenant, &take.queue) {
            return Ok(Vec::new());
        }
        let (sender, receiver) = oneshot::channel();
        let (service, take) = (self.clone(), take.clone());
        self.runtime.spawn(async move {
            let Take { tenant, queue, jobs_max, lease, worker, .. } = take;
            let claimant = Claimant { worker: service.claimer, name: worker, lease: Some(lease) };
            let wanted = |name: &str, of: &TenantName| *name == *queue && *of == tenant;
            let claimed = service.ready.claim(&claimant, wanted, jobs_max).await;
            if let Err(Ok(jobs)) = sender.send(claimed) {
                service.hand_back(&jobs).await;
            }
        });
        let stopped = |_| Err(Error::Unavailable("the node is stopping".into()));
        let jobs = receiver.await.unwrap_or_else(stopped)?;
        METRICS.taken.increment(jobs.len() as u64);
        let now_ms = now_ms();
        for job in &jobs {
            METRICS.wait_seconds.record(seconds(now_ms.saturating_sub(job.ready_at_ms)));
        }
        Ok(jobs)
    }

    /// Hands jobs back that nobody has received.
    async fn hand_back(&self, jobs: &[ClaimedJob]) {
        let endings: Vec<Ending> = jobs
            .iter()
            .map(|job| Ending { job: job.id, generation: job.generation, outcome: Outcome::HandedBack })
            .collect();
        if endings.is_empty() {
            return;
        }
        if let Err(error) = self.store.finish(&endings).await {
            tracing::debug!(%error, "jobs that nobody received wait for the end of their lease");
            return;
        }
        METRICS.handed_back.increment(endings.len() as u64);
        self.note_ended_somewhere();
        self.note_ready();
    }
}

/// Returns a time in milliseconds as seconds; a negative one as 0, since the database has a clock of its own.
#[expect(clippy::cast_precision_loss, reason = "waiting times have few digits")]
pub(crate) fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1e3
}

//! Gives jobs to workers outside.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use starling_jobs::{Claimant, ClaimedJob, Ending, Error, Outcome};
use starling_model::TenantName;
use tokio::time::{Instant, timeout_at};

use crate::JobService;
use crate::gather::{Batch, Line, stopping};
use crate::metrics::METRICS;
use crate::service::now_ms;

/// The most jobs that one claim gives to all workers that share it.
const CLAIM_MAX: u16 = 100;

/// Requests that wait for a claim.
pub(crate) type Takes = Line<Take, Vec<ClaimedJob>>;

/// Makes room for requests.
pub(crate) fn takes() -> Arc<Takes> {
    Arc::new(Line::new(|_| 0))
}

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

    /// Claims jobs to the end, even if the worker has gone: then nobody would know of them until their lease is over. Workers that ask at the same
    /// time share a claim.
    async fn claim(self: &Arc<Self>, take: &Take) -> Result<Vec<ClaimedJob>, Error> {
        if !self.ready.has(&take.tenant, &take.queue) {
            return Ok(Vec::new());
        }
        let (receiver, turn) = self.takes.join(take.clone());
        if let Some(mut turn) = turn {
            let service = self.clone();
            self.runtime.spawn(async move {
                while let Some(batch) = turn.next_batch() {
                    join_all(alike(batch).into_iter().map(|takes| service.claim_shared(takes))).await;
                }
            });
        }
        let jobs = receiver.await.unwrap_or_else(|_| Err(stopping()))?;
        METRICS.taken.increment(jobs.len() as u64);
        let now_ms = now_ms();
        for job in &jobs {
            METRICS.wait_seconds.record(seconds(now_ms.saturating_sub(job.ready_at_ms)));
        }
        Ok(jobs)
    }

    /// Claims jobs for workers that ask for the same, and gives each its share.
    async fn claim_shared(&self, takes: Batch<Take, Vec<ClaimedJob>>) {
        let Some((Take { tenant, queue, lease, worker, .. }, _)) = takes.first() else { return };
        let claimant = Claimant { worker: self.claimer, name: worker.clone(), lease: Some(*lease) };
        let wanted = |name: &str, of: &TenantName| *name == **queue && *of == *tenant;
        let limits: Vec<u16> = takes.iter().map(|(take, _)| take.jobs_max).collect();
        let all = limits.iter().fold(0_u16, |sum, limit| sum.saturating_add(*limit)).min(CLAIM_MAX);
        let answers = match self.ready.claim(&claimant, wanted, all).await {
            Ok(jobs) => shares(jobs, &limits).into_iter().map(Ok).collect(),
            Err(Error::Unavailable(why)) => {
                limits.iter().map(|_| Err(Error::Unavailable(why.clone()))).collect()
            }
            Err(error) => {
                let why = error.to_string();
                limits.iter().map(|_| Err(Error::Refused(why.clone()))).collect::<Vec<_>>()
            }
        };
        for ((_, worker), answer) in takes.into_iter().zip(answers) {
            if let Err(Ok(jobs)) = worker.send(answer) {
                self.hand_back(&jobs).await;
            }
        }
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

/// Divides requests into those that one claim can serve, each in the order of their arrival.
fn alike(batch: Batch<Take, Vec<ClaimedJob>>) -> Vec<Batch<Take, Vec<ClaimedJob>>> {
    let mut groups: Vec<Batch<Take, Vec<ClaimedJob>>> = Vec::new();
    for (take, caller) in batch {
        let key = |take: &Take| (take.tenant.clone(), take.queue.clone(), take.lease, take.worker.clone());
        let own = key(&take);
        match groups.iter_mut().find(|group| group.first().is_some_and(|(first, _)| key(first) == own)) {
            Some(group) => group.push((take, caller)),
            None => groups.push(vec![(take, caller)]),
        }
    }
    groups
}

/// Gives each a job in turn, up to its limit.
fn shares(jobs: Vec<ClaimedJob>, limits: &[u16]) -> Vec<Vec<ClaimedJob>> {
    let mut shares: Vec<Vec<ClaimedJob>> = limits.iter().map(|_| Vec::new()).collect();
    let mut turn = 0;
    for job in jobs {
        // All limits together are at least the number of jobs.
        let open = |place: &usize| shares[*place].len() < usize::from(limits[*place]);
        let Some(place) = (turn..turn + limits.len()).map(|place| place % limits.len()).find(open) else {
            break;
        };
        shares[place].push(job);
        turn = place + 1;
    }
    shares
}

/// Returns a time in milliseconds as seconds; a negative one as 0, since the database has a clock of its own.
#[expect(clippy::cast_precision_loss, reason = "waiting times have few digits")]
pub(crate) fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use starling_jobs::{BacklogName, Backoff, JobId};
    use tokio::sync::oneshot;

    use super::*;

    fn job() -> ClaimedJob {
        ClaimedJob {
            id: JobId::new(),
            generation: 1,
            backlog: BacklogName { queue: "q".into(), tenant: "t".into(), priority: 5 },
            kind: "k".into(),
            payload: "{}".into(),
            attempt: 1,
            attempts_max: 3,
            backoff: Backoff::default(),
            ready_at_ms: 0,
            lease_until_ms: None,
        }
    }

    #[test]
    fn each_worker_gets_a_job_before_another_gets_its_second() {
        let counts = |jobs: usize, limits: &[u16]| -> Vec<usize> {
            shares((0..jobs).map(|_| job()).collect(), limits).iter().map(Vec::len).collect()
        };
        assert_eq!(counts(2, &[1, 1, 1]), [1, 1, 0]);
        assert_eq!(counts(5, &[10, 1, 10]), [2, 1, 2]);
        assert_eq!(counts(12, &[10, 1, 1]), [10, 1, 1]);
        assert_eq!(counts(0, &[3]), [0]);
    }

    #[test]
    fn a_claim_is_shared_by_workers_of_one_queue_name_and_lease() {
        let take = |queue: &str, worker: &str, lease| Take {
            tenant: "t".into(),
            queue: queue.into(),
            jobs_max: 1,
            wait: Duration::ZERO,
            lease: Duration::from_secs(lease),
            worker: worker.into(),
        };
        let takes = [
            take("a", "w", 30),
            take("b", "w", 30),
            take("a", "w", 30),
            take("a", "x", 30),
            take("a", "w", 60),
        ];
        let groups = alike(takes.into_iter().map(|take| (take, oneshot::channel().0)).collect());
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
    }
}

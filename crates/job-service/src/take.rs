//! Gives jobs to workers outside.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use starling_jobs::{Claimant, ClaimedJob, Ending, Error, JobStore, Outcome, WorkerId};
use starling_model::TenantName;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::claims::OutsideClaims;
use crate::gather::{Answer, Batch, Lines, stopping};
use crate::metrics::METRICS;
use crate::notices::Notices;
use crate::ready::Ready;
use crate::time::{now_ms, seconds};
use crate::waiters::{TenantQueue, Waiters};

/// The most jobs that one claim gives to all workers that share it.
const CLAIM_MAX: u16 = 100;
/// The most claims of one queue of a tenant under way at once. Workers of one name share a claim.
const QUEUE_CLAIMS_MAX: usize = 4;
/// The most claims of all workers outside under way at once, so that conversations find connections to the database.
const CLAIMS_MAX: usize = 8;
/// The most of them from queues with limits, besides. Such claims wait for one another in the database, and must not keep others waiting.
const LIMITED_CLAIMS_MAX: usize = 4;

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

/// Gives jobs to the workers outside that ask this node. Those that ask at the same time for the same queue share a claim.
pub(crate) struct Takes {
    store: Arc<dyn JobStore>,
    ready: Arc<Ready>,
    notices: Arc<Notices>,
    waiters: Arc<Waiters>,
    claims: Arc<OutsideClaims>,
    lines: Arc<Lines<TenantQueue, Take, Vec<ClaimedJob>>>,
    places: Semaphore,
    limited_places: Semaphore,
    /// The worker id of all claims. The jobs depend on their leases, not on beats.
    claimer: WorkerId,
    runtime: Handle,
}

impl Takes {
    pub fn new(
        store: Arc<dyn JobStore>,
        ready: Arc<Ready>,
        notices: Arc<Notices>,
        waiters: Arc<Waiters>,
        claims: Arc<OutsideClaims>,
        runtime: Handle,
    ) -> Self {
        Self {
            store,
            ready,
            notices,
            waiters,
            claims,
            lines: Arc::new(Lines::new(|_| 0)),
            places: Semaphore::new(CLAIMS_MAX),
            limited_places: Semaphore::new(LIMITED_CLAIMS_MAX),
            claimer: WorkerId::new(),
            runtime,
        }
    }

    /// See [`crate::JobService::take`].
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
            if self.notices.is_draining() || timeout_at(deadline, woken).await.is_err() {
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
        let (receiver, turn) = self.lines.join((take.tenant.clone(), take.queue.clone()), take.clone());
        if let Some(mut turn) = turn {
            let takes = self.clone();
            self.runtime.spawn(async move {
                while let Some(batch) = turn.next_batch() {
                    let claims = stream::iter(alike(batch));
                    claims.for_each_concurrent(QUEUE_CLAIMS_MAX, |batch| takes.claim_shared(batch)).await;
                }
            });
        }
        let jobs = receiver.await.unwrap_or_else(|_| Err(stopping()))?;
        METRICS.taken.increment(jobs.len() as u64);
        let now_ms = now_ms();
        for job in &jobs {
            METRICS.wait_seconds.record(seconds(now_ms.saturating_sub(job.ready_at_ms)));
            self.claims.note(job, now_ms);
        }
        Ok(jobs)
    }

    /// Claims jobs for workers that ask for the same, and gives each its share.
    async fn claim_shared(&self, takes: Batch<Take, Vec<ClaimedJob>>) {
        let Some((Take { tenant, queue, lease, worker, .. }, _)) = takes.first() else { return };
        let claimant = Claimant { worker: self.claimer, name: worker.clone(), lease: Some(*lease) };
        let limits: Vec<u16> = takes.iter().map(|(take, _)| take.jobs_max).collect();
        let all = limits.iter().fold(0_u16, |sum, limit| sum.saturating_add(*limit)).min(CLAIM_MAX);
        let is_limited = self.notices.limits().has(queue);
        let places = if is_limited { &self.limited_places } else { &self.places };
        // Nobody closes the semaphore.
        let place = places.acquire().await;
        let claimed = self.ready.claim_of(&claimant, tenant, queue, all).await;
        drop(place);
        // Jobs without an answer of the database wait for the end of their lease.
        let answers: Vec<Answer<Vec<ClaimedJob>>> = match claimed.error {
            Some(Error::Unavailable(why)) if claimed.jobs.is_empty() => {
                limits.iter().map(|_| Err(Error::Unavailable(why.clone()))).collect()
            }
            Some(error) if claimed.jobs.is_empty() => {
                let why = error.to_string();
                limits.iter().map(|_| Err(Error::Refused(why.clone()))).collect()
            }
            _ => shares(claimed.jobs, &limits).into_iter().map(Ok).collect(),
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
        self.notices.note_ended_somewhere();
        self.notices.note_ready();
    }
}

/// Divides the requests of a line into those that one claim can serve, each in the order of their arrival.
fn alike(batch: Batch<Take, Vec<ClaimedJob>>) -> Vec<Batch<Take, Vec<ClaimedJob>>> {
    let mut groups: Vec<Batch<Take, Vec<ClaimedJob>>> = Vec::new();
    for (take, caller) in batch {
        let key = |take: &Take| (take.lease, take.worker.clone());
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
    fn a_claim_is_shared_by_workers_of_one_name_and_lease() {
        let take = |worker: &str, lease| Take {
            tenant: "t".into(),
            queue: "q".into(),
            jobs_max: 1,
            wait: Duration::ZERO,
            lease: Duration::from_secs(lease),
            worker: worker.into(),
        };
        let takes = [take("w", 30), take("w", 30), take("x", 30), take("w", 60), take("w", 30)];
        let groups = alike(takes.into_iter().map(|take| (take, oneshot::channel().0)).collect());
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
    }
}

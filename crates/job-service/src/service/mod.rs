//! The service of a node: it puts the parts together, adds jobs, and looks at them.

mod act;
mod limits;
mod overview;
mod schedules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{
    ClaimedJob, Enqueued, Error, JobDetails, JobFilter, JobId, JobStanding, JobState, JobStore, NewJob,
    QueueLimits,
};
use starling_model::TenantName;
use tokio::runtime::Handle;

pub use self::act::{Action, NotDone};
pub use self::overview::{JobSummaryPage, JobsCounted};
pub use self::schedules::SCHEDULES_MAX;
use crate::claims::OutsideClaims;
use crate::gather::{self, Additions};
use crate::known_queues::KnownQueues;
use crate::metrics::METRICS;
use crate::notices::Notices;
use crate::ready::{Ready, ReadySince};
use crate::report::{Failed, Reported, Reports};
use crate::take::{Take, Takes};
use crate::time::{now_ms, seconds};
use crate::upkeep::{Upkeep, UpkeepParts};
use crate::waiters::Waiters;
use crate::worker::NodeWorker;
use crate::{JobSettings, Lease, WorkerSetup};

/// The most bytes of payloads and results in a page of jobs.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// What a node does with jobs.
pub struct JobService {
    store: Arc<dyn JobStore>,
    ready: Arc<Ready>,
    notices: Arc<Notices>,
    waiters: Arc<Waiters>,
    known_queues: Arc<KnownQueues>,
    /// Jobs that are being added.
    additions: Additions,
    takes: Arc<Takes>,
    claims: Arc<OutsideClaims>,
    reports: Reports,
    /// The node's own worker. `None`: the node does no jobs itself.
    worker: Option<Arc<NodeWorker>>,
    upkeep: Upkeep,
    /// See [`JobSettings::kept_done`].
    kept_done: u32,
}

/// What the service of a node consists of.
pub struct JobServiceParts {
    /// Where jobs are kept.
    pub store: Arc<dyn JobStore>,
    /// The settings of jobs.
    pub settings: JobSettings,
    /// The node's own worker. `None`: the node does no jobs itself.
    pub worker: Option<WorkerSetup>,
    /// Runs the service's own work.
    pub runtime: Handle,
}

/// A queue of a tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueState {
    /// Whether somebody has paused it.
    pub paused: bool,
    /// The number of jobs in each state, in the order of [`JobState::ALL`].
    pub jobs: [u64; JobState::ALL.len()],
    /// How many jobs are done per second. See [`JobService::queues`].
    pub done_per_second: f64,
    /// How long the first ready job has waited, if there is one.
    pub oldest_ready_seconds: Option<f64>,
    /// The limits of the queue, over all tenants.
    pub limits: QueueLimits,
}

/// A page of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobDetails>,
    /// Where the next page begins.
    pub next: Option<JobId>,
}

impl JobService {
    /// Makes the service of a node.
    #[must_use]
    pub fn new(parts: JobServiceParts) -> Arc<Self> {
        let JobServiceParts { store, settings, worker, runtime } = parts;
        let kept_done = settings.kept_done;
        // The series are there from the start.
        METRICS.internal.oldest_ready_seconds.set(0.0);
        let ready = Arc::new(Ready::new(store.clone()));
        let notices = Arc::new(Notices::new(ready.clone()));
        let waiters = Arc::<Waiters>::default();
        let claims = Arc::new(OutsideClaims::new());
        let known_queues = Arc::<KnownQueues>::default();
        let worker = worker.and_then(|setup| {
            NodeWorker::new(setup, settings.at_once, store.clone(), ready.clone(), notices.clone())
        });
        let worker = worker.map(Arc::new);
        let upkeep = Upkeep::new(UpkeepParts {
            store: store.clone(),
            ready: ready.clone(),
            notices: notices.clone(),
            waiters: waiters.clone(),
            known_queues: known_queues.clone(),
            worker: worker.clone(),
            settings,
        });
        let takes = Takes::new(
            store.clone(),
            ready.clone(),
            notices.clone(),
            waiters.clone(),
            claims.clone(),
            runtime.clone(),
        );
        let endings = gather::endings(&store, &runtime);
        Arc::new(Self {
            additions: gather::additions(&store, &runtime),
            takes: Arc::new(takes),
            reports: Reports::new(store.clone(), endings, claims.clone(), notices.clone()),
            store,
            ready,
            notices,
            waiters,
            known_queues,
            claims,
            worker,
            upkeep,
            kept_done,
        })
    }

    /// Whether a tenant may add jobs to a queue. It may not if it has [`TENANT_QUEUES_MAX`](crate::TENANT_QUEUES_MAX) others.
    #[must_use]
    pub fn admits_queue(&self, tenant: &TenantName, queue: &str) -> bool {
        self.known_queues.admits(tenant, queue)
    }

    /// Adds a job, which must have passed [`NewJob::check`], in one transaction with those that others add at the same time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, Error> {
        let answer = self.additions.ask(job).await?;
        self.note_added(u64::from(answer.added));
        Ok(answer)
    }

    /// Adds jobs in one transaction, and answers in their order. They must have passed [`NewJob::check`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn enqueue_all(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        let answers = self.store.enqueue(jobs).await?;
        self.note_added(answers.iter().filter(|answer| answer.added).count() as u64);
        Ok(answers)
    }

    fn note_added(&self, jobs: u64) {
        if jobs > 0 {
            METRICS.enqueued.increment(jobs);
            self.notices.note_ready();
        }
    }

    /// Returns jobs of a queue, which the worker has for the time of its lease. Waits while there are none, and returns none after the wait, or
    /// when the node drains.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take(&self, take: Take) -> Result<Vec<ClaimedJob>, Error> {
        self.takes.take(take).await
    }

    /// Makes a lease longer. Returns when it ends, Unix milliseconds by the database's clock; `None` if it is over.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn extend(&self, lease: Lease, by: Duration) -> Result<Option<i64>, Error> {
        self.reports.extend(lease, by).await
    }

    /// Notes that a job is done. A repeated call changes nothing. `standing`: where the job stood before.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn done(
        &self,
        lease: Lease,
        standing: &JobStanding,
        result: Option<String>,
    ) -> Result<Reported, Error> {
        self.reports.done(lease, standing, result).await
    }

    /// Notes that an attempt has failed. The job is tried again after its back-off if `retry` and an attempt is left. A repeated call changes
    /// nothing. `standing`: where the job stood before.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fail(
        &self,
        lease: Lease,
        standing: &JobStanding,
        error: String,
        retry: bool,
    ) -> Result<Failed, Error> {
        self.reports.fail(lease, standing, error, retry).await
    }

    /// Returns where a tenant's job stood when a worker outside got it from this node under this lease. `None` if this node does not know; the
    /// database may.
    #[must_use]
    pub fn claimed_here(&self, tenant: &TenantName, lease: Lease) -> Option<JobStanding> {
        self.claims.get(tenant, lease)
    }

    /// Records that another node has made jobs ready, or has ended some of a queue with limits.
    pub fn hear_ready(&self) {
        self.notices.hear_ready();
    }

    /// Ends the waits of workers, and makes the node's own worker hand back its jobs, because the node leaves.
    pub fn drain(&self) {
        self.notices.drain();
        self.waiters.wake_all();
    }

    /// Returns when the node has begun to leave.
    pub async fn drain_begun(&self) {
        self.notices.drain_begun().await;
    }

    /// Runs the jobs that this node has handlers for, if it is a worker. Returns after a drain.
    pub async fn work(self: Arc<Self>) {
        if let Some(worker) = &self.worker {
            worker.work().await;
        }
    }

    /// Returns when the node's worker has handed back what it had, after a drain was begun, or could not in time.
    pub async fn work_ended(&self) {
        if let Some(worker) = &self.worker {
            worker.work_ended().await;
        }
    }

    /// Wakes workers when jobs are ready. Never returns.
    pub async fn watch_forever(self: Arc<Self>) {
        self.upkeep.watch_forever().await;
    }

    /// Calls `tell` when this node has made jobs ready, at most each few milliseconds. Never returns.
    pub async fn tell_forever(self: Arc<Self>, tell: impl Fn() + Send) {
        self.upkeep.tell_forever(tell).await;
    }

    /// Adds the jobs of schedules, makes scheduled jobs ready when their time has come, and gives the jobs of dead workers to others. Every
    /// node does it, so that none is needed. Never returns.
    pub async fn keep_time_forever(self: Arc<Self>) {
        self.upkeep.keep_time_forever().await;
    }

    /// Adds up the numbers of jobs, shows them in the metrics, and removes old jobs that have ended. Never returns.
    pub async fn keep_counts_forever(self: Arc<Self>) {
        self.upkeep.keep_counts_forever().await;
    }

    /// Returns where a job of a tenant stands. Another tenant's job does not exist.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn standing(&self, tenant: &TenantName, id: JobId) -> Result<Option<JobStanding>, Error> {
        Ok(self.store.standing(id).await?.filter(|standing| standing.backlog.tenant == *tenant))
    }

    /// Returns all that is kept of a tenant's job. Another tenant's job does not exist.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn job(&self, tenant: &TenantName, id: JobId) -> Result<Option<JobDetails>, Error> {
        Ok(self.store.job(id).await?.filter(|job| job.backlog.tenant == *tenant))
    }

    /// Returns a page of jobs. It ends early at 1 MiB of payloads and results.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, filter: &JobFilter) -> Result<JobPage, Error> {
        let found = self.store.find(filter).await?;
        let mut bytes = 0;
        let fit = found.iter().take_while(|job| {
            bytes += job.bytes;
            bytes <= PAGE_BYTES_MAX
        });
        let ids: Vec<JobId> = found.iter().take(fit.count().max(1)).map(|job| job.id).collect();
        let is_last = ids.len() == found.len() && found.len() < usize::from(filter.limit);
        let next = ids.last().copied().filter(|_| !is_last);
        Ok(JobPage { jobs: self.store.jobs(&ids).await?, next })
    }

    /// Returns the names of a tenant's queues that have jobs or are paused, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn queue_names(&self, tenant: &TenantName) -> Result<Vec<String>, Error> {
        let counts = self.store.counts(Some(tenant)).await?;
        let mut names: Vec<String> = counts.into_iter().map(|count| count.queue).collect();
        names.dedup();
        Ok(names)
    }

    /// Returns a tenant's queues that have jobs or are paused, and if `with_limited`, all queues that have limits. How many jobs are done
    /// per second is estimated from those of the last minute that are still kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn queues(
        &self,
        tenant: &TenantName,
        with_limited: bool,
    ) -> Result<BTreeMap<String, QueueState>, Error> {
        let mut queues: BTreeMap<String, QueueState> = BTreeMap::new();
        for count in self.store.counts(Some(tenant)).await? {
            queues.entry(count.queue).or_default().jobs[count.state as usize] = count.jobs;
        }
        for queue in self.store.paused(tenant).await? {
            queues.entry(queue).or_default().paused = true;
        }
        self.ready.refresh().await?;
        let now_ms = now_ms();
        for ReadySince { queue, since_ms, .. } in self.ready.look(Some(tenant)).await? {
            let waited = seconds(now_ms.saturating_sub(since_ms));
            queues.entry(queue).or_default().oldest_ready_seconds = Some(waited);
        }
        for (queue, limits) in self.store.limits().await? {
            if with_limited {
                queues.entry(queue).or_default().limits = limits;
            } else if let Some(known) = queues.get_mut(&queue) {
                known.limits = limits;
            }
        }
        self.add_pace(tenant, &mut queues).await?;
        Ok(queues)
    }

    /// Pauses a queue of a tenant, or ends its pause.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn pause(&self, tenant: &TenantName, queue: &str, paused: bool) -> Result<(), Error> {
        self.store.pause(tenant, queue, paused).await?;
        if !paused {
            self.notices.note_ready();
        }
        Ok(())
    }
}

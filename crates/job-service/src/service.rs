//! The service of a node: adding jobs, looking at them, pausing queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use starling_jobs::{
    Enqueued, Error, JobDetails, JobFilter, JobId, JobStanding, JobState, JobStore, NewJob, QueueLimits,
    WorkerId,
};
use starling_model::TenantName;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::gather::{self, Additions, Endings};
use crate::limits::KnownLimits;
use crate::metrics::METRICS;
use crate::ready::{Ready, ReadySince};
use crate::take::{self, Takes, seconds};
use crate::waiters::Waiters;
use crate::worker::NodeWorker;
use crate::{JobSettings, WorkerSetup};

/// The most bytes of payloads and results in a page of jobs.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// What a node does with jobs.
pub struct JobService {
    pub(crate) store: Arc<dyn JobStore>,
    pub(crate) settings: JobSettings,
    pub(crate) ready: Ready,
    pub(crate) waiters: Arc<Waiters>,
    /// The node's own worker. `None`: the node does no jobs itself.
    pub(crate) worker: Option<NodeWorker>,
    /// Jobs that are being added.
    additions: Additions,
    /// Attempts that workers outside are ending.
    pub(crate) endings: Endings,
    /// Workers outside that are about to get jobs.
    pub(crate) takes: Arc<Takes>,
    /// Notified when the node's own worker may have something to do.
    pub(crate) work_wanted: Notify,
    /// Notified when jobs may have become ready.
    pub(crate) refresh_wanted: Notify,
    /// Notified when this node has made jobs ready, of which the others have not been told.
    pub(crate) notice_wanted: Notify,
    /// The worker id under which external workers' jobs are claimed. Those jobs depend on their leases, not on beats.
    pub(crate) claimer: WorkerId,
    pub(crate) limits: KnownLimits,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) runtime: Handle,
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
        // The series are there from the start.
        METRICS.internal.oldest_ready_seconds.set(0.0);
        Arc::new(Self {
            ready: Ready::new(store.clone()),
            additions: gather::additions(&store, &runtime),
            endings: gather::endings(&store, &runtime),
            takes: take::takes(),
            store,
            settings,
            waiters: Arc::default(),
            worker: worker.and_then(NodeWorker::new),
            work_wanted: Notify::new(),
            refresh_wanted: Notify::new(),
            notice_wanted: Notify::new(),
            claimer: WorkerId::new(),
            limits: KnownLimits::default(),
            draining: watch::channel(false).0,
            runtime,
        })
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
            self.note_ready();
        }
    }

    /// Records that another node has made jobs ready, or has ended some of a queue with limits.
    pub fn hear_ready(&self) {
        self.note_ended_somewhere();
        self.refresh_wanted.notify_one();
    }

    /// Records that this node has made jobs ready.
    pub(crate) fn note_ready(&self) {
        self.refresh_wanted.notify_one();
        self.notice_wanted.notify_one();
    }

    /// Ends the waits of workers, and makes the node's own worker hand back its jobs, because the node leaves.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.waiters.wake_all();
        self.work_wanted.notify_one();
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns when the node has begun to leave.
    pub async fn drain_begun(&self) {
        // An error would say that this service is gone, which it is not.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
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
            self.note_ready();
        }
        Ok(())
    }
}

/// Returns the present time, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

//! What a store of jobs does.

use std::time::Duration;

use async_trait::async_trait;

use starling_model::TenantName;

use crate::{
    Arrivals, BacklogClaim, Beat, Burial, Claimant, Claimed, DoneLately, DueSchedules, Ending, Enqueued,
    Error, Firing, FoundJob, JobCount, JobDetails, JobFailure, JobFilter, JobId, JobStanding, JobState,
    JobSummary, LostLock, Mark, NewJob, PutSchedule, QueueLimits, Revision, Schedule, SchemaStatus, WorkerId,
    WorkerLock,
};

/// A durable store of jobs.
///
/// Every method may be retried after an [`Error`] whose [`Error::is_transient`] is true.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Brings the schema up to date, under a lock, so that many nodes may start at once.
    async fn migrate(&self) -> Result<(), Error>;

    /// Returns how the schema compares with the one that this program knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a schema that is too new.
    async fn schema_status(&self) -> Result<SchemaStatus, Error>;

    /// Adds jobs in one transaction, and answers in their order. The jobs must have passed [`NewJob::check`].
    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error>;

    /// Returns the backlogs in which jobs have become ready since a mark.
    async fn arrivals(&self, since: Mark) -> Result<Arrivals, Error>;

    /// Gives a worker the next jobs of these backlogs. Backlogs of a paused queue give none.
    async fn claim(&self, claimant: &Claimant, backlogs: &[BacklogClaim]) -> Result<Claimed, Error>;

    /// Makes the lease of a job longer: from now on it has `lease` again. Returns when it ends, Unix milliseconds by the database's clock, or
    /// `None` if it is over.
    async fn extend(&self, job: JobId, generation: i32, lease: Duration) -> Result<Option<i64>, Error>;

    /// Ends attempts in one transaction. Answers in their order with the state that each job has now; `None` if it was not running in this
    /// generation any more or its lease was over, and then nothing has changed.
    async fn finish(&self, endings: &[Ending]) -> Result<Vec<Option<JobState>>, Error>;

    /// Lists a worker, or notes that it is alive, by the database's clock.
    async fn register(&self, worker: WorkerId, node: &str) -> Result<(), Error>;

    /// Notes that a listed worker is alive, by the database's clock.
    async fn beat(&self, worker: WorkerId) -> Result<Beat, Error>;

    /// Removes a worker that ends. It must have handed back its jobs.
    async fn leave(&self, worker: WorkerId) -> Result<(), Error>;

    /// Gives a listed worker a lock that is gone when its process ends. `None` where the database can't notice that, and only beats count.
    async fn lock(&self, worker: WorkerId) -> Result<Option<WorkerLock>, Error>;

    /// Returns the workers but this one whose locks are gone. Such a worker may still live, if it has just lost its connection.
    async fn lost_locks(&self, besides: WorkerId) -> Result<Vec<LostLock>, Error>;

    /// Gives the jobs of these workers back to their queues, except those of workers that have taken their lock again.
    async fn bury_unlocked(&self, lost: &[LostLock]) -> Result<Burial, Error>;

    /// Takes the jobs of at most `limit` workers that have sent no beat for `silence` away from them.
    async fn bury_silent(&self, silence: Duration, limit: u16) -> Result<Burial, Error>;

    /// Takes at most `limit` jobs away whose lease is over. `since_ms` is where to begin: what the call before returned, or 0. Returns the
    /// number of jobs, and where the next call begins. A lease that takes more than a minute to be committed may end before that; a call
    /// that begins at 0 finds it.
    async fn expire_leases(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error>;

    /// Makes at most `limit` jobs ready whose time has come. `since_ms` is where to begin: what the call before returned, or 0. Returns the
    /// number of jobs, and where the next call begins. As with leases, only a call that begins at 0 finds all.
    async fn promote(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error>;

    /// Cancels jobs that have not ended. Those that run with a lease lose it; those that run without are asked to stop. Returns the states that
    /// they have now, without jobs that do not exist.
    async fn cancel(&self, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, Error>;

    /// Makes jobs that failed or were cancelled ready again, with all their attempts. A job whose key another one has by now stays as it is.
    /// Returns those that are ready.
    async fn retry(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error>;

    /// Removes jobs that do not run. Returns those.
    async fn discard(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error>;

    /// Returns all that is kept of a job; `None` if there is no such job.
    async fn job(&self, id: JobId) -> Result<Option<JobDetails>, Error> {
        Ok(self.jobs(&[id]).await?.pop())
    }

    /// Returns all that is kept of these jobs, newest first, without jobs that do not exist.
    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<JobDetails>, Error>;

    /// Returns what a list shows of these jobs, newest first, without jobs that do not exist. It reads no payloads and results.
    async fn summaries(&self, ids: &[JobId]) -> Result<Vec<JobSummary>, Error>;

    /// Returns where a job stands; `None` if there is no such job.
    async fn standing(&self, id: JobId) -> Result<Option<JobStanding>, Error>;

    /// Finds jobs, newest first.
    async fn find(&self, filter: &JobFilter) -> Result<Vec<FoundJob>, Error>;

    /// Returns the numbers of a tenant's jobs; `None` for all tenants. They are kept, so this does not read the jobs.
    async fn counts(&self, tenant: Option<&TenantName>) -> Result<Vec<JobCount>, Error>;

    /// Counts the jobs of these queues of a tenant that were done within the last `window` and are still kept: of each queue at most
    /// `at_most`, the newest. Queues without any are left out.
    async fn done_lately(
        &self,
        tenant: &TenantName,
        queues: &[String],
        window: Duration,
        at_most: u16,
    ) -> Result<Vec<DoneLately>, Error>;

    /// Pauses a queue of a tenant, or ends its pause. A paused queue takes jobs and gives none.
    async fn pause(&self, tenant: &TenantName, queue: &str, paused: bool) -> Result<(), Error>;

    /// Returns the paused queues of a tenant, in order.
    async fn paused(&self, tenant: &TenantName) -> Result<Vec<String>, Error>;

    /// Returns the paused queues of all tenants.
    async fn pauses(&self) -> Result<Vec<(TenantName, String)>, Error>;

    /// Keeps the limits of a queue, which must have passed [`QueueLimits::check`], in the place of those there were. They hold from the
    /// next claim on; jobs that run already are counted. Returns false, and keeps nothing, if [`crate::LIMITED_QUEUES_MAX`] other queues
    /// have limits.
    async fn put_limits(&self, queue: &str, limits: &QueueLimits) -> Result<bool, Error>;

    /// Removes the limits of a queue. Returns whether there were any.
    async fn remove_limits(&self, queue: &str) -> Result<bool, Error>;

    /// Returns the limits of all queues that have some, in the order of their names.
    async fn limits(&self) -> Result<Vec<(String, QueueLimits)>, Error>;

    /// Removes what is kept for limits and not needed any more, and lets some of the blocked jobs begin that nothing would wake.
    async fn tidy_limits(&self) -> Result<(), Error>;

    /// Discards at most `limit` jobs of a tenant's queue that ended in this state before all but the newest `kept`; none while another call
    /// does so. `since_ms` is where to begin: what the call before returned, or 0. Returns the number of jobs, and where the next call begins.
    /// As with leases, only a call that begins at 0 finds all.
    async fn trim(
        &self,
        tenant: &TenantName,
        queue: &str,
        state: JobState,
        kept: u32,
        since_ms: i64,
        limit: u16,
    ) -> Result<(u64, i64), Error>;

    /// Adds up what [`Self::counts`] returns, and removes what has become zero. `since` is where to begin: what the call before returned. Returns where the next call begins.
    async fn fold_counts(&self, since: Mark) -> Result<Mark, Error>;

    /// Keeps a schedule in the place of the version that the caller has seen (`None`: of none), unless its tenant has `at_most` already.
    /// Where the times stay the same, so does the next moment.
    async fn put_schedule(
        &self,
        schedule: &Schedule,
        seen: Option<Revision>,
        at_most: u32,
    ) -> Result<PutSchedule, Error>;

    /// Returns a schedule; `None` if there is no such one.
    async fn schedule(&self, tenant: &TenantName, name: &str) -> Result<Option<Schedule>, Error>;

    /// Returns at most `limit` schedules of a tenant whose names come after this one, in order.
    async fn schedules(&self, tenant: &TenantName, after: &str, limit: u16) -> Result<Vec<Schedule>, Error>;

    /// Removes this version of a schedule. Returns whether it was there.
    async fn delete_schedule(&self, tenant: &TenantName, name: &str, seen: Revision) -> Result<bool, Error>;

    /// Returns at most `limit` schedules whose moments have come.
    async fn due_schedules(&self, limit: u16) -> Result<DueSchedules, Error>;

    /// Adds the jobs of schedules, and moves these on, in one transaction. Schedules that somebody else has moved on or changed since they were read
    /// are left out. A moment whose job is still kept adds no second one. Returns the jobs that were added.
    async fn fire(&self, firings: &[Firing]) -> Result<Vec<JobId>, Error>;

    /// Sets of which tenants' jobs [`Self::failures`] tells. A list of a lower version than one that was set before changes nothing.
    async fn note_failures_of(&self, tenants: &[TenantName], version: i64) -> Result<(), Error>;

    /// Returns jobs of these tenants that have failed for good, the oldest first, in whatever way. Those of internal queues are not among
    /// them. Each is noted in the transaction in which it fails, and stays until it is forgotten.
    async fn failures(&self, limit: u16) -> Result<Vec<JobFailure>, Error>;

    /// Removes these notes.
    async fn forget_failures(&self, positions: &[i64]) -> Result<(), Error>;
}

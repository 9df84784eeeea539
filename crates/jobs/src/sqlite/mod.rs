//! Jobs in SQLite, for a single node.

mod claim;
mod enqueue;
mod failures;
mod finish;
mod inspect;
mod limited;
mod limits;
mod locks;
mod overview;
mod rows;
mod schedules;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_database::sqlite::SqliteDatabase;
use starling_model::TenantName;

use crate::schema::SCHEMA;
use crate::{
    Arrivals, BacklogClaim, Beat, Burial, Claimant, Claimed, DoneLately, DueSchedules, Ending, Enqueued,
    Error, Firing, FoundJob, JobCount, JobDetails, JobFailure, JobFilter, JobId, JobStanding, JobState,
    JobStore, JobSummary, LostLock, Mark, NewJob, PutSchedule, QueueLimits, Revision, Schedule, SchemaStatus,
    WorkerId, WorkerLock,
};

use locks::Locks;

pub use enqueue::enqueue;

/// Jobs in an SQLite file.
pub struct SqliteJobs {
    database: Arc<SqliteDatabase>,
    /// The workers of this process, the only one that has the file open.
    locks: Locks,
}

impl SqliteJobs {
    /// Makes a store over an open file.
    #[must_use]
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database, locks: Locks::default() }
    }
}

#[async_trait]
impl JobStore for SqliteJobs {
    async fn migrate(&self) -> Result<(), Error> {
        self.database.migrate(&SCHEMA).await
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        self.database.schema_status(&SCHEMA).await
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        let jobs = jobs.to_vec();
        self.database.write(move |connection| enqueue(connection, &jobs)).await
    }

    async fn arrivals(&self, since: Mark) -> Result<Arrivals, Error> {
        self.database.read(move |connection| claim::arrivals(connection, since)).await
    }

    async fn claim(&self, claimant: &Claimant, backlogs: &[BacklogClaim]) -> Result<Claimed, Error> {
        let (claimant, backlogs) = (claimant.clone(), backlogs.to_vec());
        self.database.write(move |connection| claim::claim(connection, &claimant, &backlogs)).await
    }

    async fn extend(&self, job: JobId, generation: i32, lease: Duration) -> Result<Option<i64>, Error> {
        self.database.write(move |connection| claim::extend(connection, job, generation, lease)).await
    }

    async fn finish(&self, endings: &[Ending]) -> Result<Vec<Option<JobState>>, Error> {
        let endings = endings.to_vec();
        self.database.write(move |connection| finish::finish(connection, &endings)).await
    }

    async fn register(&self, worker: WorkerId, node: &str) -> Result<(), Error> {
        let node = node.to_owned();
        self.database.write(move |connection| upkeep::register(connection, worker, &node)).await
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, Error> {
        self.database.write(move |connection| upkeep::beat(connection, worker)).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), Error> {
        let leave = "DELETE FROM job_workers WHERE id = ?1";
        self.database
            .write(move |connection| Ok(connection.execute(leave, [worker.bytes()]).map(drop)?))
            .await
    }

    async fn lock(&self, worker: WorkerId) -> Result<Option<WorkerLock>, Error> {
        let lock = self.locks.lock(worker);
        let is_listed = self.database.write(move |connection| locks::note(connection, worker)).await?;
        Ok(is_listed.then_some(lock))
    }

    async fn lost_locks(&self, besides: WorkerId) -> Result<Vec<LostLock>, Error> {
        let locked = self.database.read(locks::noted).await?;
        Ok(locked.into_iter().filter(|lost| lost.worker != besides && !self.locks.has(lost.worker)).collect())
    }

    async fn bury_unlocked(&self, lost: &[LostLock]) -> Result<Burial, Error> {
        let lost: Vec<LostLock> = lost.iter().filter(|lost| !self.locks.has(lost.worker)).copied().collect();
        self.database.write(move |connection| upkeep::bury_unlocked(connection, &lost)).await
    }

    async fn bury_silent(&self, silence: Duration, limit: u16) -> Result<Burial, Error> {
        self.database.write(move |connection| upkeep::bury_silent(connection, silence, limit)).await
    }

    async fn expire_leases(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
        let expired = self.database.write(move |connection| upkeep::expire_leases(connection, limit)).await?;
        Ok((expired, since_ms))
    }

    async fn promote(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
        let promoted = self.database.write(move |connection| upkeep::promote(connection, limit)).await?;
        Ok((promoted, since_ms))
    }

    async fn cancel(&self, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, Error> {
        let jobs = jobs.to_vec();
        self.database.write(move |connection| finish::cancel(connection, &jobs)).await
    }

    async fn retry(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
        let jobs = jobs.to_vec();
        self.database.write(move |connection| finish::retry(connection, &jobs)).await
    }

    async fn discard(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
        let jobs = jobs.to_vec();
        self.database.write(move |connection| finish::discard(connection, &jobs)).await
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<JobDetails>, Error> {
        let ids = ids.to_vec();
        self.database.read(move |connection| inspect::jobs(connection, &ids)).await
    }

    async fn summaries(&self, ids: &[JobId]) -> Result<Vec<JobSummary>, Error> {
        let ids = ids.to_vec();
        self.database.read(move |connection| overview::summaries(connection, &ids)).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<JobStanding>, Error> {
        self.database.read(move |connection| inspect::standing(connection, id)).await
    }

    async fn find(&self, filter: &JobFilter) -> Result<Vec<FoundJob>, Error> {
        let filter = filter.clone();
        self.database.read(move |connection| inspect::find(connection, &filter)).await
    }

    async fn counts(&self, tenant: Option<&TenantName>) -> Result<Vec<JobCount>, Error> {
        let tenant = tenant.cloned();
        self.database.read(move |connection| inspect::counts(connection, tenant.as_deref())).await
    }

    async fn done_lately(
        &self,
        tenant: &TenantName,
        queues: &[String],
        window: Duration,
        at_most: u16,
    ) -> Result<Vec<DoneLately>, Error> {
        let (tenant, queues) = (tenant.clone(), queues.to_vec());
        let lately =
            move |connection: &_| overview::done_lately(connection, &tenant, &queues, window, at_most);
        self.database.read(lately).await
    }

    async fn pause(&self, tenant: &TenantName, queue: &str, paused: bool) -> Result<(), Error> {
        let row = [tenant.to_string(), queue.to_owned()];
        let pause = match paused {
            true => "INSERT INTO job_pauses (tenant, queue) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            false => "DELETE FROM job_pauses WHERE tenant = ?1 AND queue = ?2",
        };
        self.database.write(move |connection| Ok(connection.execute(pause, row).map(drop)?)).await
    }

    async fn paused(&self, tenant: &TenantName) -> Result<Vec<String>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| inspect::paused(connection, &tenant)).await
    }

    async fn pauses(&self) -> Result<Vec<(TenantName, String)>, Error> {
        self.database.read(inspect::pauses).await
    }

    async fn put_limits(&self, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
        let (queue, limits) = (queue.to_owned(), *limits);
        self.database.write(move |connection| limits::put(connection, &queue, &limits)).await
    }

    async fn remove_limits(&self, queue: &str) -> Result<bool, Error> {
        let queue = queue.to_owned();
        self.database.write(move |connection| limits::remove(connection, &queue)).await
    }

    async fn limits(&self) -> Result<Vec<(String, QueueLimits)>, Error> {
        self.database.read(limits::limits).await
    }

    async fn tidy_limits(&self) -> Result<(), Error> {
        self.database.write(limits::tidy).await
    }

    async fn trim(
        &self,
        tenant: &TenantName,
        queue: &str,
        state: JobState,
        kept: u32,
        since_ms: i64,
        limit: u16,
    ) -> Result<(u64, i64), Error> {
        let (tenant, queue) = (tenant.clone(), queue.to_owned());
        let trim = move |connection: &_| upkeep::trim(connection, &tenant, &queue, state, kept, limit);
        let discarded = self.database.write(trim).await?;
        Ok((discarded, since_ms))
    }

    async fn fold_counts(&self, since: Mark) -> Result<Mark, Error> {
        if self.database.read(upkeep::has_zero_counts).await? {
            self.database.write(upkeep::remove_zero_counts).await?;
        }
        Ok(since)
    }

    async fn put_schedule(
        &self,
        schedule: &Schedule,
        seen: Option<Revision>,
        at_most: u32,
    ) -> Result<PutSchedule, Error> {
        let schedule = schedule.clone();
        self.database.write(move |connection| schedules::put(connection, &schedule, seen, at_most)).await
    }

    async fn schedule(&self, tenant: &TenantName, name: &str) -> Result<Option<Schedule>, Error> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.database.read(move |connection| schedules::schedule(connection, &tenant, &name)).await
    }

    async fn schedules(&self, tenant: &TenantName, after: &str, limit: u16) -> Result<Vec<Schedule>, Error> {
        let (tenant, after) = (tenant.clone(), after.to_owned());
        self.database.read(move |connection| schedules::list(connection, &tenant, &after, limit)).await
    }

    async fn delete_schedule(&self, tenant: &TenantName, name: &str, seen: Revision) -> Result<bool, Error> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.database.write(move |connection| schedules::delete(connection, &tenant, &name, seen)).await
    }

    async fn due_schedules(&self, limit: u16) -> Result<DueSchedules, Error> {
        self.database.read(move |connection| schedules::due(connection, limit)).await
    }

    async fn fire(&self, firings: &[Firing]) -> Result<Vec<JobId>, Error> {
        let firings = firings.to_vec();
        self.database.write(move |connection| schedules::fire(connection, &firings)).await
    }

    async fn note_failures_of(&self, tenants: &[TenantName], version: i64) -> Result<(), Error> {
        let tenants = tenants.to_vec();
        self.database.write(move |connection| failures::note_failures_of(connection, &tenants, version)).await
    }

    async fn failures(&self, limit: u16) -> Result<Vec<JobFailure>, Error> {
        self.database.read(move |connection| failures::failures(connection, limit)).await
    }

    async fn forget_failures(&self, positions: &[i64]) -> Result<(), Error> {
        let positions = positions.to_vec();
        self.database.write(move |connection| failures::forget(connection, &positions)).await
    }
}

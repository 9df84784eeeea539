//! Jobs in PostgreSQL, 15 or newer, for any number of nodes.
//!
//! Each call is a function in the database (`migrations/postgres`), so that it takes one round trip and one commit. The store works through a
//! PgBouncer in transaction mode, like everything else that Starling keeps in PostgreSQL.

mod claim;
mod enqueue;
mod failures;
mod finish;
mod inspect;
mod limits;
mod locks;
mod overview;
mod schedules;
mod upkeep;

use std::time::Duration;

use async_trait::async_trait;
use starling_database::postgres::{Pool, migrate, schema_status};
use starling_model::TenantName;
use tokio_postgres::types::Type;

use crate::schema::SCHEMA;
use crate::{
    Arrivals, BacklogClaim, Beat, Burial, Claimant, Claimed, DoneLately, DueSchedules, Ending, Enqueued,
    Error, Firing, FoundJob, JobCount, JobDetails, JobFailure, JobFilter, JobId, JobStanding, JobState,
    JobStore, JobSummary, LostLock, Mark, NewJob, PutSchedule, QueueLimits, Revision, Schedule, SchemaStatus,
    WorkerId, WorkerLock,
};

pub use enqueue::EnqueueColumns;

/// Jobs in PostgreSQL.
pub struct PostgresJobs {
    database: Pool,
}

impl PostgresJobs {
    /// Makes a store over these connections.
    #[must_use]
    pub fn new(database: Pool) -> Self {
        Self { database }
    }
}

/// Returns the ids as the database takes them.
fn uuids(jobs: &[JobId]) -> Vec<uuid::Uuid> {
    jobs.iter().map(|job| job.uuid()).collect()
}

/// Returns a duration as whole milliseconds.
fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unknown_state(number: i16) -> Error {
    Error::Refused(format!("{number} is no state of a job"))
}

#[async_trait]
impl JobStore for PostgresJobs {
    async fn migrate(&self) -> Result<(), Error> {
        migrate(&self.database, &SCHEMA).await
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        schema_status(&self.database, &SCHEMA).await
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
        enqueue::enqueue(&self.database, jobs).await
    }

    async fn arrivals(&self, since: Mark) -> Result<Arrivals, Error> {
        claim::arrivals(&self.database, since).await
    }

    async fn claim(&self, claimant: &Claimant, backlogs: &[BacklogClaim]) -> Result<Claimed, Error> {
        claim::claim(&self.database, claimant, backlogs).await
    }

    async fn extend(&self, job: JobId, generation: i32, lease: Duration) -> Result<Option<i64>, Error> {
        claim::extend(&self.database, job, generation, lease).await
    }

    async fn finish(&self, endings: &[Ending]) -> Result<Vec<Option<JobState>>, Error> {
        finish::finish(&self.database, endings).await
    }

    async fn register(&self, worker: WorkerId, node: &str) -> Result<(), Error> {
        upkeep::register(&self.database, worker, node).await
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, Error> {
        upkeep::beat(&self.database, worker).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), Error> {
        let leave = "DELETE FROM job_workers WHERE id = $1";
        self.database.write(leave, &[(&worker.uuid(), Type::UUID)]).await?;
        Ok(())
    }

    async fn lock(&self, worker: WorkerId) -> Result<Option<WorkerLock>, Error> {
        locks::lock(&self.database, worker).await
    }

    async fn lost_locks(&self, besides: WorkerId) -> Result<Vec<LostLock>, Error> {
        locks::lost(&self.database, besides).await
    }

    async fn bury_unlocked(&self, lost: &[LostLock]) -> Result<Burial, Error> {
        locks::bury(&self.database, lost).await
    }

    async fn bury_silent(&self, silence: Duration, limit: u16) -> Result<Burial, Error> {
        upkeep::bury_silent(&self.database, silence, limit).await
    }

    async fn expire_leases(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
        upkeep::expire_leases(&self.database, since_ms, limit).await
    }

    async fn promote(&self, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
        upkeep::promote(&self.database, since_ms, limit).await
    }

    async fn cancel(&self, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, Error> {
        finish::cancel(&self.database, jobs).await
    }

    async fn retry(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
        finish::change(&self.database, "SELECT job FROM starling_jobs_retry($1)", jobs).await
    }

    async fn discard(&self, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
        let waiting = "SELECT job FROM starling_jobs_discard_waiting_6($1)";
        let mut discarded = finish::change(&self.database, waiting, jobs).await?;
        let ended = finish::change(&self.database, "SELECT job FROM starling_jobs_discard($1)", jobs).await?;
        discarded.extend(ended);
        Ok(discarded)
    }

    async fn jobs(&self, ids: &[JobId]) -> Result<Vec<JobDetails>, Error> {
        inspect::jobs(&self.database, ids).await
    }

    async fn summaries(&self, ids: &[JobId]) -> Result<Vec<JobSummary>, Error> {
        overview::summaries(&self.database, ids).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<JobStanding>, Error> {
        inspect::standing(&self.database, id).await
    }

    async fn find(&self, filter: &JobFilter) -> Result<Vec<FoundJob>, Error> {
        inspect::find(&self.database, filter).await
    }

    async fn counts(&self, tenant: Option<&TenantName>) -> Result<Vec<JobCount>, Error> {
        inspect::counts(&self.database, tenant).await
    }

    async fn done_lately(
        &self,
        tenant: &TenantName,
        queues: &[String],
        window: Duration,
        at_most: u16,
    ) -> Result<Vec<DoneLately>, Error> {
        overview::done_lately(&self.database, tenant, queues, window, at_most).await
    }

    async fn pause(&self, tenant: &TenantName, queue: &str, paused: bool) -> Result<(), Error> {
        let pause = match paused {
            true => "INSERT INTO job_pauses (tenant, queue) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            false => "DELETE FROM job_pauses WHERE tenant = $1 AND queue = $2",
        };
        self.database.write(pause, &[(&&**tenant, Type::TEXT), (&queue, Type::TEXT)]).await?;
        Ok(())
    }

    async fn paused(&self, tenant: &TenantName) -> Result<Vec<String>, Error> {
        inspect::paused(&self.database, tenant).await
    }

    async fn pauses(&self) -> Result<Vec<(TenantName, String)>, Error> {
        inspect::pauses(&self.database).await
    }

    async fn put_limits(&self, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
        limits::put(&self.database, queue, limits).await
    }

    async fn remove_limits(&self, queue: &str) -> Result<bool, Error> {
        limits::remove(&self.database, queue).await
    }

    async fn limits(&self) -> Result<Vec<(String, QueueLimits)>, Error> {
        limits::limits(&self.database).await
    }

    async fn tidy_limits(&self) -> Result<(), Error> {
        limits::tidy(&self.database).await
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
        upkeep::trim(&self.database, tenant, queue, state, kept, since_ms, limit).await
    }

    async fn fold_counts(&self, since: Mark) -> Result<Mark, Error> {
        upkeep::fold(&self.database, since).await
    }

    async fn put_schedule(
        &self,
        schedule: &Schedule,
        seen: Option<Revision>,
        at_most: u32,
    ) -> Result<PutSchedule, Error> {
        schedules::put(&self.database, schedule, seen, at_most).await
    }

    async fn schedule(&self, tenant: &TenantName, name: &str) -> Result<Option<Schedule>, Error> {
        schedules::schedule(&self.database, tenant, name).await
    }

    async fn schedules(&self, tenant: &TenantName, after: &str, limit: u16) -> Result<Vec<Schedule>, Error> {
        schedules::list(&self.database, tenant, after, limit).await
    }

    async fn delete_schedule(&self, tenant: &TenantName, name: &str, seen: Revision) -> Result<bool, Error> {
        schedules::delete(&self.database, tenant, name, seen).await
    }

    async fn due_schedules(&self, limit: u16) -> Result<DueSchedules, Error> {
        schedules::due(&self.database, limit).await
    }

    async fn fire(&self, firings: &[Firing]) -> Result<Vec<JobId>, Error> {
        schedules::fire(&self.database, firings).await
    }

    async fn note_failures_of(&self, tenants: &[TenantName], version: i64) -> Result<(), Error> {
        failures::note_failures_of(&self.database, tenants, version).await
    }

    async fn failures(&self, limit: u16) -> Result<Vec<JobFailure>, Error> {
        failures::failures(&self.database, limit).await
    }

    async fn forget_failures(&self, positions: &[i64]) -> Result<(), Error> {
        failures::forget(&self.database, positions).await
    }
}

//! Changes of one row each, which the calls are made of.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use crate::model::ATTEMPTS_KEPT_MAX;
use crate::{AttemptOutcome, BacklogName, Claimant, Error, JobId, JobState};

/// A job on its way between two states.
pub(super) struct Moving {
    pub job: JobId,
    pub backlog: BacklogName,
    /// Attempts that count.
    pub attempt: i64,
    pub generation: i32,
}

/// An attempt that is over.
pub(super) struct Over {
    pub worker: [u8; 16],
    pub worker_name: String,
    pub started_at_ms: i64,
}

/// Returns the time, Unix milliseconds. The database is on this machine, so its clock is the database's.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ms(now)
}

/// Returns a duration as whole milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Moving {
    /// Makes the job ready.
    pub fn make_ready(&self, connection: &Connection) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation, ready_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.backlog.queue,
                &*self.backlog.tenant,
                self.backlog.priority,
                self.job.bytes(),
                self.attempt,
                self.generation,
                now_ms()
            ])?;
        self.count(connection, JobState::Ready, 1)
    }

    /// Schedules the job.
    pub fn schedule(&self, connection: &Connection, run_at_ms: i64) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_scheduled (run_at_ms, job, queue, tenant, priority, attempt, generation)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                run_at_ms,
                self.job.bytes(),
                self.backlog.queue,
                &*self.backlog.tenant,
                self.backlog.priority,
                self.attempt,
                self.generation
            ])?;
        self.count(connection, JobState::Scheduled, 1)
    }

    /// Gives the job to a worker. `attempt` and `generation` are those of this claim.
    pub fn start(
        &self,
        connection: &Connection,
        claimant: &Claimant,
        lease_until_ms: Option<i64>,
    ) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_running
                     (job, generation, attempt, queue, tenant, priority, worker, worker_name, lease_until_ms, started_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                self.job.bytes(),
                self.generation,
                self.attempt,
                self.backlog.queue,
                &*self.backlog.tenant,
                self.backlog.priority,
                claimant.worker.bytes(),
                claimant.name,
                lease_until_ms,
                now_ms()
            ])?;
        connection
            .prepare_cached("DELETE FROM job_keys WHERE job = ?1 AND held = 0")?
            .execute([self.job.bytes()])?;
        self.count(connection, JobState::Running, 1)
    }

    /// Ends the job.
    pub fn end(&self, connection: &Connection, state: JobState, result: Option<&str>) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_endings (job, queue, tenant, state, ended_at_ms, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                self.job.bytes(),
                self.backlog.queue,
                &*self.backlog.tenant,
                state.number(),
                now_ms(),
                result
            ])?;
        connection
            .prepare_cached("DELETE FROM job_keys WHERE job = ?1 AND held <= 1")?
            .execute([self.job.bytes()])?;
        self.count(connection, state, 1)
    }

    /// Stores the outcome of the attempt that ends, and forgets the oldest one if there are too many.
    pub fn note_attempt(
        &self,
        connection: &Connection,
        over: &Over,
        outcome: AttemptOutcome,
        error: Option<&str>,
    ) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_attempts (job, generation, attempt, worker, worker_name, started_at_ms, ended_at_ms, outcome, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                self.job.bytes(),
                self.generation,
                self.attempt,
                over.worker,
                over.worker_name,
                over.started_at_ms,
                now_ms(),
                outcome.number(),
                error
            ])?;
        if self.generation > ATTEMPTS_KEPT_MAX {
            connection
                .prepare_cached("DELETE FROM job_attempts WHERE job = ?1 AND generation <= ?2")?
                .execute(params![self.job.bytes(), self.generation - ATTEMPTS_KEPT_MAX])?;
        }
        Ok(())
    }

    /// Adds to the number of jobs in a state.
    pub fn count(&self, connection: &Connection, state: JobState, jobs: i64) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO job_counts (queue, tenant, state, jobs) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (queue, tenant, state) DO UPDATE SET jobs = jobs + excluded.jobs",
            )?
            .execute(params![self.backlog.queue, &*self.backlog.tenant, state.number(), jobs])?;
        Ok(())
    }
}

/// Reads a backlog from three columns.
pub(super) fn backlog(row: &rusqlite::Row<'_>, first: usize) -> Result<BacklogName, rusqlite::Error> {
    let tenant: String = row.get(first + 1)?;
    Ok(BacklogName { queue: row.get(first)?, tenant: tenant.into(), priority: row.get(first + 2)? })
}

//! Reading jobs and their numbers.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use starling_model::TenantName;

use super::finish::state;
use super::rows::backlog;
use crate::{
    ATTEMPTS_SHOWN_MAX, Attempt, AttemptOutcome, Backoff, Error, FoundJob, JobCount, JobDetails, JobFilter,
    JobId, JobStanding, JobState, RunningAttempt,
};

const JOB: &str = "
    SELECT j.queue, j.tenant, j.priority, j.kind, j.payload, j.created_at_ms, coalesce(s.run_at_ms, j.run_at_ms), e.ended_at_ms,
           j.attempts_max, j.backoff_first_ms, j.backoff_max_ms, e.result, r.attempt, r.generation, r.worker_name, r.started_at_ms,
           j.concurrency_key
    FROM jobs j LEFT JOIN job_scheduled s ON s.job = j.id LEFT JOIN job_running r ON r.job = j.id LEFT JOIN job_endings e ON e.job = j.id
    WHERE j.id = ?1";
const STANDING: &str = "
    SELECT j.queue, j.tenant, j.priority, coalesce(s.run_at_ms, j.run_at_ms), j.attempts_max, j.backoff_first_ms, j.backoff_max_ms,
           r.attempt, r.generation, r.worker_name, r.started_at_ms
    FROM jobs j LEFT JOIN job_scheduled s ON s.job = j.id LEFT JOIN job_running r ON r.job = j.id WHERE j.id = ?1";
const ATTEMPTS: &str = "
    SELECT attempt, generation, worker_name, started_at_ms, ended_at_ms, outcome, error FROM job_attempts WHERE job = ?1
    ORDER BY generation DESC LIMIT ?2";
const COUNTS: &str = "
    SELECT queue, tenant, state, jobs FROM job_counts WHERE jobs > 0 AND (?1 IS NULL OR tenant = ?1) ORDER BY queue, tenant, state";

/// Makes the statement that searches all jobs of a queue. `state` chooses those of a state.
macro_rules! all {
    ($state:literal) => {
        concat!(
            "SELECT j.id, octet_length(j.payload) + coalesce(octet_length(e.result), 0)
             FROM jobs j LEFT JOIN job_endings e ON e.job = j.id
             WHERE j.tenant = ?1 AND j.queue = ?2 AND j.id < ?3 AND (?4 IS NULL OR j.kind = ?4)",
            $state,
            " ORDER BY j.id DESC LIMIT ?5"
        )
    };
}

/// Makes the statement that searches the jobs of a queue that have ended in a state: most others may wait.
macro_rules! ended {
    ($state:literal) => {
        concat!(
            "SELECT j.id, octet_length(j.payload) + coalesce(octet_length(e.result), 0)
             FROM job_endings e INDEXED BY job_endings_by_job CROSS JOIN jobs j ON j.id = e.job
             WHERE e.tenant = ?1 AND e.queue = ?2 AND e.state = ",
            $state,
            " AND e.job < ?3 AND (?4 IS NULL OR j.kind = ?4) ORDER BY e.job DESC LIMIT ?5"
        )
    };
}

/// Searches all running jobs, which are few.
const RUNNING: &str = "
    SELECT j.id, octet_length(j.payload) FROM job_running r CROSS JOIN jobs j ON j.id = r.job
    WHERE r.tenant = ?1 AND r.queue = ?2 AND r.job < ?3 AND (?4 IS NULL OR j.kind = ?4) ORDER BY r.job DESC LIMIT ?5";

const fn find_of(state: Option<JobState>) -> &'static str {
    match state {
        None => all!(""),
        Some(JobState::Scheduled) => all!(" AND EXISTS (SELECT 1 FROM job_scheduled s WHERE s.job = j.id)"),
        // A job is ready if it is nothing else.
        Some(JobState::Ready) => all!(
            " AND e.job IS NULL AND NOT EXISTS (SELECT 1 FROM job_running r WHERE r.job = j.id)
              AND NOT EXISTS (SELECT 1 FROM job_scheduled s WHERE s.job = j.id)"
        ),
        Some(JobState::Running) => RUNNING,
        Some(JobState::Done) => ended!("3"),
        Some(JobState::Failed) => ended!("4"),
        Some(JobState::Cancelled) => ended!("5"),
    }
}

pub(super) fn find(connection: &Connection, filter: &JobFilter) -> Result<Vec<FoundJob>, Error> {
    let before = filter.before.unwrap_or(JobId::last()).bytes();
    let mut statement = connection.prepare_cached(find_of(filter.state))?;
    let mut found = Vec::new();
    for queue in &filter.queues {
        let wanted = params![&*filter.tenant, queue, before, filter.kind, filter.limit];
        let jobs = statement.query_map(wanted, |row| {
            let bytes = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            Ok(FoundJob { id: JobId::from_bytes(row.get(0)?), bytes })
        })?;
        for job in jobs {
            found.push(job?);
        }
        found.sort_by_key(|job| std::cmp::Reverse(job.id));
        found.truncate(usize::from(filter.limit));
    }
    Ok(found)
}

pub(super) fn jobs(connection: &Connection, ids: &[JobId]) -> Result<Vec<JobDetails>, Error> {
    let mut ids = ids.to_vec();
    ids.sort_by(|a, b| b.cmp(a));
    ids.dedup();
    ids.into_iter().filter_map(|id| job(connection, id).transpose()).collect()
}

fn job(connection: &Connection, id: JobId) -> Result<Option<JobDetails>, Error> {
    let Some(state) = state(connection, id)? else { return Ok(None) };
    let mut attempts = connection
        .prepare_cached(ATTEMPTS)?
        .query_map(params![id.bytes(), ATTEMPTS_SHOWN_MAX], attempt)?
        .collect::<Result<Option<Vec<_>>, _>>()?
        .ok_or_else(|| Error::Refused("an attempt has no known outcome".into()))?;
    attempts.reverse();
    let details = |row: &Row<'_>| {
        Ok(JobDetails {
            id,
            backlog: backlog(row, 0)?,
            kind: row.get(3)?,
            payload: row.get(4)?,
            state,
            created_at_ms: row.get(5)?,
            run_at_ms: row.get(6)?,
            ended_at_ms: row.get(7)?,
            attempts_max: row.get(8)?,
            backoff: Backoff { first: delay(row, 9)?, max: delay(row, 10)? },
            result: row.get(11)?,
            attempts,
            running: running(row, 12)?,
            concurrency_key: row.get(16)?,
        })
    };
    Ok(connection.prepare_cached(JOB)?.query_row([id.bytes()], details).optional()?)
}

pub(super) fn standing(connection: &Connection, id: JobId) -> Result<Option<JobStanding>, Error> {
    let Some(state) = state(connection, id)? else { return Ok(None) };
    let standing = |row: &Row<'_>| {
        Ok(JobStanding {
            backlog: backlog(row, 0)?,
            state,
            run_at_ms: row.get(3)?,
            attempts_max: row.get(4)?,
            backoff: Backoff { first: delay(row, 5)?, max: delay(row, 6)? },
            running: running(row, 7)?,
        })
    };
    Ok(connection.prepare_cached(STANDING)?.query_row([id.bytes()], standing).optional()?)
}

/// Reads a column of milliseconds.
pub(super) fn delay(row: &Row<'_>, position: usize) -> Result<Duration, rusqlite::Error> {
    Ok(Duration::from_millis(u64::try_from(row.get::<_, i64>(position)?).unwrap_or(0)))
}

/// Reads the attempt that goes on from four columns.
pub(super) fn running(row: &Row<'_>, first: usize) -> Result<Option<RunningAttempt>, rusqlite::Error> {
    let Some(number) = row.get(first)? else { return Ok(None) };
    Ok(Some(RunningAttempt {
        number,
        generation: row.get(first + 1)?,
        worker: row.get(first + 2)?,
        started_at_ms: row.get(first + 3)?,
    }))
}

/// Reads an attempt; `None` if its outcome is unknown.
pub(super) fn attempt(row: &Row<'_>) -> Result<Option<Attempt>, rusqlite::Error> {
    let Some(outcome) = AttemptOutcome::of_number(row.get(5)?) else { return Ok(None) };
    Ok(Some(Attempt {
        number: row.get(0)?,
        generation: row.get(1)?,
        worker: row.get(2)?,
        started_at_ms: row.get(3)?,
        ended_at_ms: row.get(4)?,
        outcome,
        error: row.get(6)?,
    }))
}

pub(super) fn counts(connection: &Connection, tenant: Option<&str>) -> Result<Vec<JobCount>, Error> {
    let mut statement = connection.prepare_cached(COUNTS)?;
    let rows = statement.query_map([tenant], |row| {
        let tenant: String = row.get(1)?;
        Ok((row.get(0)?, tenant, row.get::<_, i16>(2)?, row.get::<_, i64>(3)?))
    })?;
    let mut counts = Vec::new();
    for row in rows {
        let (queue, tenant, number, jobs) = row?;
        let state = JobState::of_number(number)
            .ok_or_else(|| Error::Refused(format!("{number} is no state of a job")))?;
        counts.push(JobCount { queue, tenant: tenant.into(), state, jobs: u64::try_from(jobs).unwrap_or(0) });
    }
    Ok(counts)
}

pub(super) fn paused(connection: &Connection, tenant: &str) -> Result<Vec<String>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT queue FROM job_pauses WHERE tenant = ?1 ORDER BY queue")?;
    let queues = statement.query_map([tenant], |row| row.get(0))?;
    Ok(queues.collect::<Result<_, _>>()?)
}

pub(super) fn pauses(connection: &Connection) -> Result<Vec<(TenantName, String)>, Error> {
    let mut statement = connection.prepare_cached("SELECT tenant, queue FROM job_pauses")?;
    let queues =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?.as_str().into(), row.get(1)?)))?;
    Ok(queues.collect::<Result<_, _>>()?)
}

//! Ending attempts and jobs.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Moving, Over, backlog, ms, now_ms};
use crate::ending::Parts;
use crate::{AttemptOutcome, Ending, Error, JobId, JobState, Outcome};

const RUNNING: &str = "
    SELECT generation, attempt, queue, tenant, priority, worker, worker_name, started_at_ms, lease_until_ms
    FROM job_running WHERE job = ?1 AND generation = ?2";
const LEASED: &str = "SELECT generation FROM job_running WHERE job = ?1 AND lease_until_ms IS NOT NULL";
const STOPPED: &str = "DELETE FROM job_cancellations WHERE worker = ?1 AND job = ?2";
const SCHEDULED_GONE: &str = "
    DELETE FROM job_scheduled WHERE job = ?1 RETURNING queue, tenant, priority, attempt, generation";
const READY_GONE: &str = "
    DELETE FROM job_ready WHERE job = ?1 RETURNING queue, tenant, priority, attempt, generation";
const BLOCKED_GONE: &str = "
    DELETE FROM job_blocked WHERE job = ?1 RETURNING queue, tenant, priority, attempt, generation";
const STOP: &str = "
    INSERT INTO job_cancellations (worker, job, generation) SELECT worker, job, generation FROM job_running WHERE job = ?1
    ON CONFLICT (worker, job) DO UPDATE SET generation = excluded.generation";
const ENDED_GONE: &str = "DELETE FROM job_endings WHERE job = ?1 RETURNING state";
const KEY: &str = "
    SELECT j.tenant, j.queue, j.key, j.held FROM jobs j JOIN job_endings e ON e.job = j.id
    WHERE j.id = ?1 AND j.key IS NOT NULL AND e.state IN (4, 5)";
const HOLD: &str =
    "INSERT INTO job_keys (tenant, queue, key, job, held) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
const HOLDS: &str = "SELECT 1 FROM job_keys WHERE tenant = ?1 AND queue = ?2 AND key = ?3 AND job = ?4";
const RETRIABLE: &str = "SELECT 1 FROM job_endings WHERE job = ?1 AND state IN (4, 5)";
const BACKLOG: &str = "
    SELECT queue, tenant, priority, (SELECT coalesce(max(generation), 0) FROM job_attempts WHERE job = ?1) FROM jobs WHERE id = ?1";
const STATE: &str = "
    SELECT coalesce((SELECT state FROM job_endings WHERE job = ?1), (SELECT 2 FROM job_running WHERE job = ?1),
                    (SELECT 0 FROM job_scheduled WHERE job = ?1), 1)
    FROM jobs WHERE id = ?1";

pub(super) fn finish(connection: &Connection, endings: &[Ending]) -> Result<Vec<Option<JobState>>, Error> {
    let finished = endings
        .iter()
        .map(|ending| finish_one(connection, ending.job, ending.generation, &Parts::of(&ending.outcome)));
    finished.collect()
}

/// Ends an attempt. `None` if the job is not running in this generation.
pub(super) fn finish_one(
    connection: &Connection,
    job: JobId,
    generation: i32,
    parts: &Parts<'_>,
) -> Result<Option<JobState>, Error> {
    let running = connection.prepare_cached(RUNNING)?.query_row(params![job.bytes(), generation], |row| {
        let moving = Moving { job, generation: row.get(0)?, attempt: row.get(1)?, backlog: backlog(row, 2)? };
        let over = Over { worker: row.get(5)?, worker_name: row.get(6)?, started_at_ms: row.get(7)? };
        Ok((moving, over, row.get::<_, Option<i64>>(8)?))
    });
    let Some((mut moving, over, lease_until_ms)) = running.optional()? else { return Ok(None) };
    let is_by_worker = !matches!(parts.outcome, AttemptOutcome::Lost | AttemptOutcome::Cancelled);
    if is_by_worker && lease_until_ms.is_some_and(|until_ms| until_ms < now_ms()) {
        return Ok(None);
    }
    connection.prepare_cached("DELETE FROM job_running WHERE job = ?1")?.execute([job.bytes()])?;
    moving.count(connection, JobState::Running, -1)?;
    moving.note_attempt(connection, &over, parts.outcome, parts.error)?;
    let shall_stop = connection.prepare_cached(STOPPED)?.execute(params![over.worker, job.bytes()])? > 0;
    let state = match (parts.outcome, parts.retry_in) {
        (AttemptOutcome::Done, _) => JobState::Done,
        // A job that shall stop does not start again.
        (AttemptOutcome::Cancelled, _) => JobState::Cancelled,
        _ if shall_stop => JobState::Cancelled,
        (AttemptOutcome::HandedBack, _) => JobState::Ready,
        (_, Some(delay)) if delay.is_zero() => JobState::Ready,
        (_, Some(_)) => JobState::Scheduled,
        (_, None) => JobState::Failed,
    };
    match (state, parts.retry_in) {
        (JobState::Ready, _) => {
            moving.attempt -= i64::from(parts.outcome == AttemptOutcome::HandedBack);
            moving.make_ready(connection)?;
        }
        (JobState::Scheduled, Some(delay)) => {
            moving.schedule(connection, now_ms().saturating_add(ms(delay)))?;
        }
        _ => moving.end(connection, state, parts.result)?,
    }
    Ok(Some(state))
}

pub(super) fn cancel(connection: &Connection, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, Error> {
    let mut states = Vec::new();
    for &job in jobs {
        if let Some(moving) = take_waiting(connection, job)? {
            moving.end(connection, JobState::Cancelled, None)?;
        }
        let leased =
            connection.prepare_cached(LEASED)?.query_row([job.bytes()], |row| row.get(0)).optional()?;
        if let Some(generation) = leased {
            finish_one(connection, job, generation, &Parts::of(&Outcome::Cancelled))?;
        }
        connection.prepare_cached(STOP)?.execute([job.bytes()])?;
        if let Some(state) = state(connection, job)? {
            states.push((job, state));
        }
    }
    Ok(states)
}

/// Returns the state of a job; `None` if there is no such job.
pub(super) fn state(connection: &Connection, job: JobId) -> Result<Option<JobState>, Error> {
    let number =
        connection.prepare_cached(STATE)?.query_row([job.bytes()], |row| row.get::<_, i16>(0)).optional()?;
    Ok(number.and_then(JobState::of_number))
}

pub(super) fn retry(connection: &Connection, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
    let mut retried = Vec::new();
    for &job in jobs {
        if !connection.prepare_cached(RETRIABLE)?.exists([job.bytes()])? || !hold_key(connection, job)? {
            continue;
        }
        if let Some(moving) = take_ended(connection, job)? {
            moving.make_ready(connection)?;
            retried.push(job);
        }
    }
    Ok(retried)
}

/// Takes the key of a job that is retried. False if another job has it.
fn hold_key(connection: &Connection, job: JobId) -> Result<bool, Error> {
    let key = connection.prepare_cached(KEY)?.query_row([job.bytes()], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, i16>(3)?,
        ))
    });
    let Some((tenant, queue, key, held)) = key.optional()? else { return Ok(true) };
    connection.prepare_cached(HOLD)?.execute(params![tenant, queue, key, job.bytes(), held])?;
    Ok(connection.prepare_cached(HOLDS)?.exists(params![tenant, queue, key, job.bytes()])?)
}

/// Takes a job out of those that wait. `None` if it is none of them.
fn take_waiting(connection: &Connection, job: JobId) -> Result<Option<Moving>, Error> {
    let places = [
        (SCHEDULED_GONE, JobState::Scheduled),
        (READY_GONE, JobState::Ready),
        (BLOCKED_GONE, JobState::Ready),
    ];
    for (gone, before) in places {
        let moving = connection.prepare_cached(gone)?.query_row([job.bytes()], |row| {
            Ok(Moving { job, backlog: backlog(row, 0)?, attempt: row.get(3)?, generation: row.get(4)? })
        });
        if let Some(moving) = moving.optional()? {
            moving.count(connection, before, -1)?;
            return Ok(Some(moving));
        }
    }
    Ok(None)
}

pub(super) fn discard(connection: &Connection, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
    let mut discarded = Vec::new();
    for &job in jobs {
        if take_ended(connection, job)?.is_some() || take_waiting(connection, job)?.is_some() {
            for table in [
                "DELETE FROM job_attempts WHERE job = ?1",
                "DELETE FROM job_keys WHERE job = ?1",
                "DELETE FROM jobs WHERE id = ?1",
            ] {
                connection.prepare_cached(table)?.execute([job.bytes()])?;
            }
            discarded.push(job);
        }
    }
    Ok(discarded)
}

/// Takes a job out of those that have ended. `None` if it is none of them.
fn take_ended(connection: &Connection, job: JobId) -> Result<Option<Moving>, Error> {
    let state = connection
        .prepare_cached(ENDED_GONE)?
        .query_row([job.bytes()], |row| row.get::<_, i16>(0))
        .optional()?;
    let Some(state) = state.and_then(JobState::of_number) else { return Ok(None) };
    let moving = connection.prepare_cached(BACKLOG)?.query_row([job.bytes()], |row| {
        Ok(Moving { job, backlog: backlog(row, 0)?, attempt: 0, generation: row.get(3)? })
    });
    let Some(moving) = moving.optional()? else { return Ok(None) };
    moving.count(connection, state, -1)?;
    Ok(Some(moving))
}

//! Beats and burials of workers, and what the node does from time to time.

use std::time::Duration;

use rusqlite::{Connection, Params, params};

use super::finish::{discard, finish_one};
use super::rows::{Moving, backlog, ms, now_ms};
use crate::ending::Parts;
use crate::{AttemptOutcome, Beat, Burial, Error, JobId, JobState, LostLock, WorkerId};

const REGISTER: &str = "
    INSERT INTO job_workers (id, node, seen_at_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET seen_at_ms = excluded.seen_at_ms";
const BEAT: &str = "UPDATE job_workers SET seen_at_ms = ?2 WHERE id = ?1";
const SHALL_STOP: &str = "SELECT job, generation FROM job_cancellations WHERE worker = ?1";
const SILENT_GONE: &str = "
    DELETE FROM job_workers WHERE id IN (SELECT id FROM job_workers WHERE seen_at_ms < ?1 LIMIT ?2)";
const UNLOCKED_GONE: &str = "DELETE FROM job_workers WHERE id = ?1";
const LOST: &str = "
    SELECT r.job, r.generation, r.attempt < j.attempts_max FROM job_running r JOIN jobs j ON j.id = r.job
    WHERE r.lease_until_ms IS NULL AND NOT EXISTS (SELECT 1 FROM job_workers w WHERE w.id = r.worker)";
const EXPIRED: &str = "
    SELECT r.job, r.generation, r.attempt < j.attempts_max FROM job_running r JOIN jobs j ON j.id = r.job
    WHERE r.lease_until_ms < ?1 ORDER BY r.lease_until_ms LIMIT ?2";
const DUE: &str = "
    SELECT job, queue, tenant, priority, attempt, generation FROM job_scheduled WHERE run_at_ms <= ?1 ORDER BY run_at_ms, job LIMIT ?2";
const TO_TRIM: &str = "
    SELECT job FROM job_endings WHERE tenant = ?1 AND queue = ?2 AND state = ?3 ORDER BY ended_at_ms DESC, job DESC LIMIT ?5 OFFSET ?4";

const ZERO_COUNTS: &str = "SELECT 1 FROM job_counts WHERE jobs = 0 LIMIT 1";
const ZERO_COUNTS_GONE: &str = "DELETE FROM job_counts WHERE jobs = 0";

pub(super) fn register(connection: &Connection, worker: WorkerId, node: &str) -> Result<(), Error> {
    connection.prepare_cached(REGISTER)?.execute(params![worker.bytes(), node, now_ms()])?;
    Ok(())
}

pub(super) fn beat(connection: &Connection, worker: WorkerId) -> Result<Beat, Error> {
    if connection.prepare_cached(BEAT)?.execute(params![worker.bytes(), now_ms()])? == 0 {
        return Ok(Beat::Buried);
    }
    let mut statement = connection.prepare_cached(SHALL_STOP)?;
    let jobs =
        statement.query_map([worker.bytes()], |row| Ok((JobId::from_bytes(row.get(0)?), row.get(1)?)))?;
    Ok(Beat::Alive(jobs.collect::<Result<_, _>>()?))
}

pub(super) fn bury_silent(connection: &Connection, silence: Duration, limit: u16) -> Result<Burial, Error> {
    let silent_since_ms = now_ms().saturating_sub(ms(silence));
    let workers = connection.prepare_cached(SILENT_GONE)?.execute(params![silent_since_ms, limit])?;
    Ok(Burial { workers: workers as u64, attempts: lose(connection, LOST, [])? })
}

pub(super) fn expire_leases(connection: &Connection, limit: u16) -> Result<u64, Error> {
    lose(connection, EXPIRED, params![now_ms(), limit])
}

pub(super) fn bury_unlocked(connection: &Connection, lost: &[LostLock]) -> Result<Burial, Error> {
    let mut workers = 0;
    for lost in lost {
        workers += connection.prepare_cached(UNLOCKED_GONE)?.execute([lost.worker.bytes()])?;
    }
    Ok(Burial { workers: workers as u64, attempts: lose(connection, LOST, [])? })
}

/// Takes the jobs away that a statement finds. Returns their number.
fn lose(connection: &Connection, which: &str, parameters: impl Params) -> Result<u64, Error> {
    let lost = connection
        .prepare_cached(which)?
        .query_map(parameters, |row| Ok((JobId::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(JobId, i32, bool)>, _>>()?;
    let mut attempts = 0;
    for (job, generation, again) in lost {
        let parts = Parts {
            outcome: AttemptOutcome::Lost,
            retry_in: again.then_some(Duration::ZERO),
            result: None,
            error: Some("the worker was lost"),
        };
        attempts += u64::from(finish_one(connection, job, generation, &parts)?.is_some());
    }
    Ok(attempts)
}

pub(super) fn promote(connection: &Connection, limit: u16) -> Result<u64, Error> {
    let due = connection
        .prepare_cached(DUE)?
        .query_map(params![now_ms(), limit], |row| {
            let job = JobId::from_bytes(row.get(0)?);
            Ok(Moving { job, backlog: backlog(row, 1)?, attempt: row.get(4)?, generation: row.get(5)? })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    for moving in &due {
        connection
            .prepare_cached("DELETE FROM job_scheduled WHERE job = ?1")?
            .execute([moving.job.bytes()])?;
        moving.count(connection, JobState::Scheduled, -1)?;
        moving.make_ready(connection)?;
    }
    Ok(due.len() as u64)
}

pub(super) fn trim(
    connection: &Connection,
    tenant: &str,
    queue: &str,
    state: JobState,
    kept: u32,
    limit: u16,
) -> Result<u64, Error> {
    let jobs = connection
        .prepare_cached(TO_TRIM)?
        .query_map(params![tenant, queue, state.number(), kept, limit], |row| {
            Ok(JobId::from_bytes(row.get(0)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(discard(connection, &jobs)?.len() as u64)
}

/// Whether counts have become zero.
pub(super) fn has_zero_counts(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.prepare_cached(ZERO_COUNTS)?.exists([])?)
}

pub(super) fn remove_zero_counts(connection: &Connection) -> Result<(), Error> {
    connection.prepare_cached(ZERO_COUNTS_GONE)?.execute([])?;
    Ok(())
}

//! Adding jobs.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Moving, ms, now_ms};
use crate::{BacklogName, Enqueued, Error, JobId, NewJob, RunAt};

const ADD: &str = "
    INSERT INTO jobs (id, tenant, queue, kind, payload, priority, attempts_max, backoff_first_ms, backoff_max_ms, key, held, run_at_ms, created_at_ms,
                      concurrency_key)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING";
const HOLDER: &str = "SELECT job FROM job_keys WHERE tenant = ?1 AND queue = ?2 AND key = ?3";
const HOLD: &str = "INSERT INTO job_keys (tenant, queue, key, job, held) VALUES (?1, ?2, ?3, ?4, ?5)";
const EXISTS: &str = "SELECT 1 FROM jobs WHERE id = ?1";

/// Adds jobs in the present transaction of the connection. The jobs must have passed [`NewJob::check`].
///
/// # Errors
/// Those of the database.
pub fn enqueue(connection: &Connection, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
    jobs.iter().map(|job| enqueue_one(connection, job)).collect()
}

fn enqueue_one(connection: &Connection, job: &NewJob) -> Result<Enqueued, Error> {
    if connection.prepare_cached(EXISTS)?.exists([job.id.bytes()])? {
        return Ok(Enqueued { job: job.id, added: false });
    }
    if let Some(unique) = &job.unique {
        let key = params![&*job.tenant, job.queue, unique.key];
        let holder = connection.prepare_cached(HOLDER)?.query_row(key, |row| row.get(0)).optional()?;
        if let Some(holder) = holder {
            return Ok(Enqueued { job: JobId::from_bytes(holder), added: false });
        }
        let held = params![&*job.tenant, job.queue, unique.key, job.id.bytes(), unique.held.number()];
        connection.prepare_cached(HOLD)?.execute(held)?;
    }
    let now_ms = now_ms();
    let run_at_ms = match job.run_at {
        RunAt::Now => now_ms,
        RunAt::After(delay) => now_ms.saturating_add(ms(delay)),
        RunAt::At(moment_ms) => moment_ms,
    };
    connection.prepare_cached(ADD)?.execute(params![
        job.id.bytes(),
        &*job.tenant,
        job.queue,
        job.kind,
        job.payload,
        job.priority,
        job.attempts_max,
        ms(job.backoff.first),
        ms(job.backoff.max),
        job.unique.as_ref().map(|unique| &unique.key),
        job.unique.as_ref().map(|unique| unique.held.number()),
        run_at_ms,
        now_ms,
        job.concurrency_key
    ])?;
    let backlog =
        BacklogName { queue: job.queue.clone(), tenant: job.tenant.clone(), priority: job.priority };
    let moving = Moving { job: job.id, backlog, attempt: 0, generation: 0 };
    if run_at_ms > now_ms {
        moving.schedule(connection, run_at_ms)?;
    } else {
        moving.make_ready(connection)?;
    }
    Ok(Enqueued { job: job.id, added: true })
}

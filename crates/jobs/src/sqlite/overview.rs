//! Reading what lists show.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::finish::state;
use super::inspect::{attempt, delay, running};
use super::rows::{backlog, ms, now_ms};
use crate::{Backoff, DoneLately, Error, JobId, JobState, JobSummary};

const SUMMARY: &str = "
    SELECT j.queue, j.tenant, j.priority, j.kind, j.created_at_ms, coalesce(s.run_at_ms, j.run_at_ms), e.ended_at_ms,
           j.attempts_max, j.backoff_first_ms, j.backoff_max_ms, r.attempt, r.generation, r.worker_name, r.started_at_ms,
           j.concurrency_key
    FROM jobs j LEFT JOIN job_scheduled s ON s.job = j.id LEFT JOIN job_running r ON r.job = j.id LEFT JOIN job_endings e ON e.job = j.id
    WHERE j.id = ?1";
const NEWEST_ATTEMPT: &str = "
    SELECT attempt, generation, worker_name, started_at_ms, ended_at_ms, outcome, error FROM job_attempts WHERE job = ?1
    ORDER BY generation DESC LIMIT 1";
const DONE_LATELY: &str = "
    SELECT count(*), min(ended_at_ms) FROM (
        SELECT ended_at_ms FROM job_endings WHERE tenant = ?1 AND queue = ?2 AND state = ?3 AND ended_at_ms > ?4
        ORDER BY ended_at_ms DESC LIMIT ?5
    )";

pub(super) fn summaries(connection: &Connection, ids: &[JobId]) -> Result<Vec<JobSummary>, Error> {
    let mut ids = ids.to_vec();
    ids.sort_by(|a, b| b.cmp(a));
    ids.dedup();
    ids.into_iter().filter_map(|id| summary(connection, id).transpose()).collect()
}

fn summary(connection: &Connection, id: JobId) -> Result<Option<JobSummary>, Error> {
    let Some(state) = state(connection, id)? else { return Ok(None) };
    let newest = connection.prepare_cached(NEWEST_ATTEMPT)?.query_row([id.bytes()], attempt).optional()?;
    let summary = |row: &Row<'_>| {
        Ok(JobSummary {
            id,
            backlog: backlog(row, 0)?,
            kind: row.get(3)?,
            state,
            created_at_ms: row.get(4)?,
            run_at_ms: row.get(5)?,
            ended_at_ms: row.get(6)?,
            attempts_max: row.get(7)?,
            backoff: Backoff { first: delay(row, 8)?, max: delay(row, 9)? },
            newest: newest.flatten(),
            running: running(row, 10)?,
            concurrency_key: row.get(14)?,
        })
    };
    Ok(connection.prepare_cached(SUMMARY)?.query_row([id.bytes()], summary).optional()?)
}

pub(super) fn done_lately(
    connection: &Connection,
    tenant: &str,
    queues: &[String],
    window: Duration,
    at_most: u16,
) -> Result<Vec<DoneLately>, Error> {
    let (now_ms, done) = (now_ms(), JobState::Done.number());
    let since_ms = now_ms.saturating_sub(ms(window));
    let mut statement = connection.prepare_cached(DONE_LATELY)?;
    let mut found = Vec::new();
    for queue in queues {
        let (jobs, oldest_ms): (u32, Option<i64>) = statement
            .query_row(params![tenant, queue, done, since_ms, at_most], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if let Some(oldest_ms) = oldest_ms {
            let oldest = u64::try_from(now_ms.saturating_sub(oldest_ms)).unwrap_or(0);
            found.push(DoneLately { queue: queue.clone(), jobs, oldest: Duration::from_millis(oldest) });
        }
    }
    found.sort_by(|one, other| one.queue.cmp(&other.queue));
    Ok(found)
}

//! Giving jobs to workers.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Moving, backlog, ms, now_ms};
use super::{limited, limits};
use crate::{
    Arrival, Arrivals, BacklogClaim, BacklogLeft, BacklogName, Backoff, Claimant, Claimed, ClaimedJob, Error,
    JobId, JobState, Mark,
};

const ARRIVALS: &str = "
    SELECT queue, tenant, priority, min(position), ready_at_ms FROM (
        SELECT queue, tenant, priority, position, ready_at_ms FROM job_ready WHERE position > ?1
        UNION ALL SELECT queue, tenant, priority, position, ready_at_ms FROM job_blocked WHERE position > ?1)
    GROUP BY queue, tenant, priority";
/// As the statement above from the beginning, but it goes from the first job of each backlog to that of the next one.
const ARRIVALS_OF_ALL: &str = "
    WITH RECURSIVE firsts (position) AS (
        SELECT (SELECT position FROM job_ready ORDER BY queue, tenant, priority, position LIMIT 1)
        UNION ALL
        SELECT (SELECT n.position FROM job_ready n WHERE (n.queue, n.tenant, n.priority) > (r.queue, r.tenant, r.priority)
                ORDER BY n.queue, n.tenant, n.priority, n.position LIMIT 1)
        FROM firsts f CROSS JOIN job_ready r ON r.position = f.position
    ), firsts_blocked (position) AS (
        SELECT (SELECT position FROM job_blocked ORDER BY queue, tenant, priority, position LIMIT 1)
        UNION ALL
        SELECT (SELECT n.position FROM job_blocked n WHERE (n.queue, n.tenant, n.priority) > (b.queue, b.tenant, b.priority)
                ORDER BY n.queue, n.tenant, n.priority, n.position LIMIT 1)
        FROM firsts_blocked f CROSS JOIN job_blocked b ON b.position = f.position
    )
    SELECT queue, tenant, priority, min(position), ready_at_ms FROM (
        SELECT r.queue, r.tenant, r.priority, r.position, r.ready_at_ms FROM firsts f JOIN job_ready r ON r.position = f.position
        UNION ALL
        SELECT b.queue, b.tenant, b.priority, b.position, b.ready_at_ms FROM firsts_blocked f JOIN job_blocked b ON b.position = f.position)
    WHERE position > ?1 GROUP BY queue, tenant, priority";
const NEWEST: &str = "SELECT coalesce(max(position), ?1) FROM job_ready";
const LISTED: &str = "SELECT 1 FROM job_workers WHERE id = ?1";
const PAUSED: &str = "SELECT 1 FROM job_pauses WHERE tenant = ?1 AND queue = ?2";
const NEXT: &str = "
    SELECT r.position, r.job, r.attempt, r.generation, r.ready_at_ms, j.kind, j.payload, j.attempts_max, j.backoff_first_ms, j.backoff_max_ms
    FROM job_ready r JOIN jobs j ON j.id = r.job
    WHERE r.queue = ?1 AND r.tenant = ?2 AND r.priority = ?3 ORDER BY r.position LIMIT ?4";
const FIRST_LEFT: &str = "
    SELECT position, ready_at_ms FROM job_ready WHERE queue = ?1 AND tenant = ?2 AND priority = ?3 ORDER BY position LIMIT 1";
const FIRST_BLOCKED: &str = "
    SELECT ready_at_ms FROM job_blocked WHERE queue = ?1 AND tenant = ?2 AND priority = ?3 ORDER BY position LIMIT 1";
const EXTEND: &str =
    "UPDATE job_running SET lease_until_ms = ?1 WHERE job = ?2 AND generation = ?3 AND lease_until_ms >= ?4";

pub(super) fn arrivals(connection: &Connection, since: Mark) -> Result<Arrivals, Error> {
    let which = if since == Mark::default() { ARRIVALS_OF_ALL } else { ARRIVALS };
    let mut statement = connection.prepare_cached(which)?;
    let backlogs = statement.query_map([since.position], |row| {
        let mark = Mark { transaction: 0, position: row.get(3)? };
        Ok(Arrival { backlog: backlog(row, 0)?, mark, ready_since_ms: row.get(4)? })
    })?;
    let backlogs = backlogs.collect::<Result<Vec<_>, _>>()?;
    let newest = connection.prepare_cached(NEWEST)?.query_row([since.position], |row| row.get(0))?;
    Ok(Arrivals { backlogs, mark: Mark { transaction: 0, position: since.position.max(newest) } })
}

pub(super) fn claim(
    connection: &Connection,
    claimant: &Claimant,
    backlogs: &[BacklogClaim],
) -> Result<Claimed, Error> {
    let mut claimed = Claimed::default();
    let until_ms = claimant.lease.map(|lease| now_ms().saturating_add(ms(lease)));
    if until_ms.is_none() && !connection.prepare_cached(LISTED)?.exists([claimant.worker.bytes()])? {
        return Ok(claimed);
    }
    for claim in backlogs {
        let BacklogClaim { backlog, limit, .. } = claim;
        let limits = limits::of(connection, &backlog.queue)?;
        let mut left = BacklogLeft { mark: claim.mark, ..BacklogLeft::default() };
        let is_paused = connection.prepare_cached(PAUSED)?.exists([&*backlog.tenant, &*backlog.queue])?;
        match &limits {
            _ if is_paused || *limit == 0 => {}
            Some(limits) => {
                let begun = limited::claim(connection, claimant, until_ms, claim, limits)?;
                claimed.jobs.extend(begun.jobs);
                (left.set_aside, left.hold) = (begun.set_aside, begun.hold);
            }
            None => {
                for (position, job) in next(connection, backlog, *limit)? {
                    let job = ClaimedJob { lease_until_ms: until_ms, ..job };
                    take(connection, claimant, position, &job)?;
                    claimed.jobs.push(job);
                }
            }
        }
        look_at_rest(connection, backlog, limits.is_some(), &mut left)?;
        claimed.left.push(left);
    }
    Ok(claimed)
}

/// Notes where the next claim begins, and since when the first job has been ready. Blocked jobs are ready, too.
fn look_at_rest(
    connection: &Connection,
    backlog: &BacklogName,
    is_limited: bool,
    left: &mut BacklogLeft,
) -> Result<(), Error> {
    let name = params![backlog.queue, &*backlog.tenant, backlog.priority];
    let first = connection
        .prepare_cached(FIRST_LEFT)?
        .query_row(name, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    if let Some((position, ready_since_ms)) = first {
        left.mark = Mark { transaction: 0, position };
        left.ready_since_ms = Some(ready_since_ms);
    }
    if is_limited {
        let blocked: Option<i64> =
            connection.prepare_cached(FIRST_BLOCKED)?.query_row(name, |row| row.get(0)).optional()?;
        left.ready_since_ms = left.ready_since_ms.into_iter().chain(blocked).min();
    }
    Ok(())
}

/// Returns the next jobs of a backlog with their positions, as they will be when they are claimed.
fn next(connection: &Connection, backlog: &BacklogName, limit: u16) -> Result<Vec<(i64, ClaimedJob)>, Error> {
    let mut statement = connection.prepare_cached(NEXT)?;
    let delay = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let jobs =
        statement.query_map(params![backlog.queue, &*backlog.tenant, backlog.priority, limit], |row| {
            let job = ClaimedJob {
                id: JobId::from_bytes(row.get(1)?),
                generation: row.get::<_, i32>(3)? + 1,
                backlog: backlog.clone(),
                kind: row.get(5)?,
                payload: row.get(6)?,
                attempt: row.get::<_, u16>(2)? + 1,
                attempts_max: row.get(7)?,
                backoff: Backoff { first: delay(row.get(8)?), max: delay(row.get(9)?) },
                ready_at_ms: row.get(4)?,
                lease_until_ms: None,
            };
            Ok((row.get(0)?, job))
        })?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

fn take(connection: &Connection, claimant: &Claimant, position: i64, job: &ClaimedJob) -> Result<(), Error> {
    connection.prepare_cached("DELETE FROM job_ready WHERE position = ?1")?.execute([position])?;
    start(connection, claimant, job)
}

/// Gives a job, which does not wait any more, to a worker.
pub(super) fn start(connection: &Connection, claimant: &Claimant, job: &ClaimedJob) -> Result<(), Error> {
    let backlog = &job.backlog;
    let moving = Moving {
        job: job.id,
        backlog: backlog.clone(),
        attempt: job.attempt.into(),
        generation: job.generation,
    };
    moving.count(connection, JobState::Ready, -1)?;
    moving.start(connection, claimant, job.lease_until_ms)
}

pub(super) fn extend(
    connection: &Connection,
    job: JobId,
    generation: i32,
    lease: Duration,
) -> Result<Option<i64>, Error> {
    let now_ms = now_ms();
    let until_ms = now_ms.saturating_add(ms(lease));
    let extended =
        connection.prepare_cached(EXTEND)?.execute(params![until_ms, job.bytes(), generation, now_ms])?;
    Ok((extended > 0).then_some(until_ms))
}

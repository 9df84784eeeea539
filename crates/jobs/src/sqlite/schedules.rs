//! Schedules: keeping, listing and firing them.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::enqueue::enqueue;
use super::rows::{ms, now_ms};
use crate::schedule::DUE_READ_MAX;
use crate::{
    Backoff, DueSchedule, DueSchedules, Error, Firing, JobId, Missed, PutSchedule, Revision, Schedule,
    ScheduleTimes, ScheduledJob,
};

const COLUMNS: &str = "tenant, name, revision, cron, zone, missed, next_at_ms, queue, kind, payload, priority, attempts_max, backoff_first_ms,
    backoff_max_ms, last_at_ms";
/// Times that stay as they are go on where they were.
const REPLACE: &str = "
    UPDATE job_schedules SET revision = ?4, missed = ?7, queue = ?8, kind = ?9, payload = ?10, priority = ?11, attempts_max = ?12,
        backoff_first_ms = ?13, backoff_max_ms = ?14, next_at_ms = CASE WHEN cron = ?5 AND zone = ?6 THEN next_at_ms ELSE ?15 END,
        cron = ?5, zone = ?6
    WHERE tenant = ?1 AND name = ?2 AND revision = ?3";
const INSERT: &str = "
    INSERT INTO job_schedules (tenant, name, revision, cron, zone, missed, queue, kind, payload, priority, attempts_max, backoff_first_ms,
        backoff_max_ms, next_at_ms)
    VALUES (?1, ?2, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
const EXISTS: &str = "SELECT 1 FROM job_schedules WHERE tenant = ?1 AND name = ?2";
const COUNT: &str = "SELECT count(*) FROM job_schedules WHERE tenant = ?1";
const DELETE: &str = "DELETE FROM job_schedules WHERE tenant = ?1 AND name = ?2 AND revision = ?3";
const DUE: &str = "
    SELECT tenant, name, revision, cron, zone, missed, next_at_ms FROM (
        SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY next_at_ms) AS turn FROM (
            SELECT tenant, name, revision, cron, zone, missed, next_at_ms FROM job_schedules
            WHERE next_at_ms <= ?1 ORDER BY next_at_ms LIMIT ?3
        )
    ) ORDER BY turn, next_at_ms LIMIT ?2";
const MOVE: &str = "
    UPDATE job_schedules SET next_at_ms = ?5, last_at_ms = coalesce(?6, last_at_ms)
    WHERE tenant = ?1 AND name = ?2 AND revision = ?3 AND next_at_ms = ?4";

pub(super) fn put(
    connection: &Connection,
    schedule: &Schedule,
    seen: Option<Revision>,
    at_most: u32,
) -> Result<PutSchedule, Error> {
    let Schedule { tenant, name, revision, times, job, next_ms, .. } = schedule;
    let values = params![
        &**tenant,
        name,
        seen.map(Revision::bytes),
        revision.bytes(),
        times.cron,
        times.zone,
        times.missed.number(),
        job.queue,
        job.kind,
        job.payload,
        job.priority,
        job.attempts_max,
        ms(job.backoff.first),
        ms(job.backoff.max),
        next_ms,
    ];
    if seen.is_some() {
        let replaced = connection.prepare_cached(REPLACE)?.execute(values)? > 0;
        return Ok(if replaced { PutSchedule::Replaced } else { PutSchedule::Changed });
    }
    if connection.prepare_cached(EXISTS)?.exists(params![&**tenant, name])? {
        return Ok(PutSchedule::Changed);
    }
    let count: u32 = connection.prepare_cached(COUNT)?.query_row([&**tenant], |row| row.get(0))?;
    if count >= at_most {
        return Ok(PutSchedule::TooMany);
    }
    connection.prepare_cached(INSERT)?.execute(values)?;
    Ok(PutSchedule::Created)
}

pub(super) fn schedule(connection: &Connection, tenant: &str, name: &str) -> Result<Option<Schedule>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM job_schedules WHERE tenant = ?1 AND name = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row([tenant, name], read).optional()?)
}

pub(super) fn list(
    connection: &Connection,
    tenant: &str,
    after: &str,
    limit: u16,
) -> Result<Vec<Schedule>, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM job_schedules WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let schedules = statement.query_map(params![tenant, after, limit], read)?;
    Ok(schedules.collect::<Result<_, _>>()?)
}

pub(super) fn delete(
    connection: &Connection,
    tenant: &str,
    name: &str,
    seen: Revision,
) -> Result<bool, Error> {
    Ok(connection.prepare_cached(DELETE)?.execute(params![tenant, name, seen.bytes()])? > 0)
}

pub(super) fn due(connection: &Connection, limit: u16) -> Result<DueSchedules, Error> {
    let now_ms = now_ms();
    let mut statement = connection.prepare_cached(DUE)?;
    let schedules = statement.query_map(params![now_ms, limit, DUE_READ_MAX], |row| {
        Ok(DueSchedule {
            tenant: row.get::<_, String>(0)?.as_str().into(),
            name: row.get(1)?,
            revision: Revision::from_bytes(row.get(2)?),
            times: times(row)?,
            due_ms: row.get(6)?,
        })
    })?;
    Ok(DueSchedules { schedules: schedules.collect::<Result<_, _>>()?, now_ms })
}

pub(super) fn fire(connection: &Connection, firings: &[Firing]) -> Result<Vec<JobId>, Error> {
    let mut added = Vec::new();
    for Firing { schedule: due, moments_ms, next_ms } in firings {
        let moved =
            params![&*due.tenant, due.name, due.revision.bytes(), due.due_ms, next_ms, moments_ms.last()];
        if connection.prepare_cached(MOVE)?.execute(moved)? == 0 {
            continue;
        }
        let Some(schedule) = schedule(connection, &due.tenant, &due.name)? else { continue };
        let jobs: Vec<_> = moments_ms.iter().map(|moment_ms| schedule.job_at(*moment_ms)).collect();
        let enqueued = enqueue(connection, &jobs)?;
        added.extend(enqueued.into_iter().filter(|enqueued| enqueued.added).map(|enqueued| enqueued.job));
    }
    Ok(added)
}

fn times(row: &Row<'_>) -> Result<ScheduleTimes, rusqlite::Error> {
    let number: i16 = row.get(5)?;
    let missed =
        Missed::of_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(5, number.into()))?;
    Ok(ScheduleTimes { cron: row.get(3)?, zone: row.get(4)?, missed })
}

fn read(row: &Row<'_>) -> Result<Schedule, rusqlite::Error> {
    let delay = |position| {
        let ms: i64 = row.get(position)?;
        Ok::<_, rusqlite::Error>(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    };
    Ok(Schedule {
        tenant: row.get::<_, String>(0)?.as_str().into(),
        name: row.get(1)?,
        revision: Revision::from_bytes(row.get(2)?),
        times: times(row)?,
        job: ScheduledJob {
            queue: row.get(7)?,
            kind: row.get(8)?,
            payload: row.get(9)?,
            priority: row.get(10)?,
            attempts_max: row.get(11)?,
            backoff: Backoff { first: delay(12)?, max: delay(13)? },
        },
        next_ms: row.get(6)?,
        last_ms: row.get(14)?,
    })
}

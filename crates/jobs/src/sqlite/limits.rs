//! Limits of queues, and what their rates allow.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use starling_rate::Allowance;

use crate::{Error, LIMITED_QUEUES_MAX, QueueLimits, StartRate};

/// The columns of limits.
macro_rules! columns {
    () => {
        "total_concurrency, total_rate, total_burst, tenant_concurrency, tenant_rate, tenant_burst, key_concurrency, key_rate, key_burst"
    };
}

const OF_QUEUE: &str = concat!("SELECT ", columns!(), " FROM job_limits WHERE queue = ?1");
const ALL: &str = concat!("SELECT ", columns!(), ", queue FROM job_limits ORDER BY queue");
const OTHERS: &str = "SELECT count(*) FROM job_limits WHERE queue <> ?1";
const PUT: &str = concat!(
    "INSERT INTO job_limits (",
    columns!(),
    ", queue) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (queue) DO UPDATE SET
        total_concurrency = excluded.total_concurrency, total_rate = excluded.total_rate, total_burst = excluded.total_burst,
        tenant_concurrency = excluded.tenant_concurrency, tenant_rate = excluded.tenant_rate, tenant_burst = excluded.tenant_burst,
        key_concurrency = excluded.key_concurrency, key_rate = excluded.key_rate, key_burst = excluded.key_burst"
);
const COUNT_RUNNING: &str = "
    UPDATE job_running SET limited = 1,
        concurrency_key = CASE WHEN ?2 THEN (SELECT j.concurrency_key FROM jobs j WHERE j.id = job_running.job) END
    WHERE queue = ?1";
const TURNS_OF_BLOCKED: &str = "
    INSERT INTO job_key_turns (queue, tenant, key) SELECT DISTINCT queue, tenant, key FROM job_blocked WHERE queue = ?1";
const SET_BACK: &str = "
    INSERT INTO job_ready (queue, tenant, priority, job, attempt, generation, ready_at_ms)
    SELECT queue, tenant, priority, job, attempt, generation, ready_at_ms FROM job_blocked WHERE queue = ?1 ORDER BY position";
const WHOLE_GONE: &str = "DELETE FROM job_rates WHERE due_us <= ?1";
const NEEDLESS_GONE: &str = "
    DELETE FROM job_key_turns AS u WHERE u.due_us <= ?1 AND NOT EXISTS (
        SELECT 1 FROM job_blocked b WHERE b.queue = u.queue AND b.tenant = u.tenant AND b.key = u.key)";
const RUNNING: &str = "SELECT count(*) FROM job_running WHERE limited AND queue = ?1";
const RUNNING_OF_TENANT: &str =
    "SELECT count(*) FROM job_running WHERE limited AND queue = ?1 AND tenant = ?2";
const RUNNING_OF_KEY: &str =
    "SELECT count(*) FROM job_running WHERE limited AND queue = ?1 AND tenant = ?2 AND concurrency_key = ?3";
const DUE: &str = "SELECT due_us FROM job_rates WHERE queue = ?1 AND scope = ?2 AND tenant = ?3 AND key = ?4";
const SET_DUE: &str = "
    INSERT INTO job_rates (queue, scope, tenant, key, due_us) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (queue, scope, tenant, key) DO UPDATE SET due_us = excluded.due_us";

/// Returns the time, microseconds since 1970.
pub(super) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the limits of a queue, if it has some.
pub(super) fn of(connection: &Connection, queue: &str) -> Result<Option<QueueLimits>, Error> {
    Ok(connection.prepare_cached(OF_QUEUE)?.query_row([queue], read).optional()?)
}

fn read(row: &Row<'_>) -> Result<QueueLimits, rusqlite::Error> {
    let mut columns = [None; 9];
    for (place, number) in columns.iter_mut().enumerate() {
        *number = row.get(place)?;
    }
    Ok(QueueLimits::of_columns(columns))
}

pub(super) fn limits(connection: &Connection) -> Result<Vec<(String, QueueLimits)>, Error> {
    let mut statement = connection.prepare_cached(ALL)?;
    let limits = statement.query_map([], |row| Ok((row.get(9)?, read(row)?)))?;
    Ok(limits.collect::<Result<_, _>>()?)
}

pub(super) fn put(connection: &Connection, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
    let others: u32 = connection.prepare_cached(OTHERS)?.query_row([queue], |row| row.get(0))?;
    if others >= LIMITED_QUEUES_MAX {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(PUT)?;
    for (place, number) in limits.columns().into_iter().enumerate() {
        statement.raw_bind_parameter(place + 1, number)?;
    }
    statement.raw_bind_parameter(10, queue)?;
    statement.raw_execute()?;
    let has_keys = !limits.per_key.is_none();
    connection.prepare_cached(COUNT_RUNNING)?.execute(params![queue, has_keys])?;
    connection.prepare_cached(TURNS_OF_BLOCKED)?.execute([queue])?;
    Ok(true)
}

pub(super) fn remove(connection: &Connection, queue: &str) -> Result<bool, Error> {
    let removed = connection.prepare_cached("DELETE FROM job_limits WHERE queue = ?1")?.execute([queue])?;
    connection.prepare_cached(SET_BACK)?.execute([queue])?;
    for gone in [
        "DELETE FROM job_blocked WHERE queue = ?1",
        "DELETE FROM job_key_turns WHERE queue = ?1",
        "DELETE FROM job_rates WHERE queue = ?1",
    ] {
        connection.prepare_cached(gone)?.execute([queue])?;
    }
    Ok(removed > 0)
}

pub(super) fn tidy(connection: &Connection) -> Result<(), Error> {
    let now_us = i64::try_from(now_us()).unwrap_or(i64::MAX);
    connection.prepare_cached(WHOLE_GONE)?.execute([now_us])?;
    connection.prepare_cached(NEEDLESS_GONE)?.execute([now_us])?;
    Ok(())
}

/// Whose limit is meant.
#[derive(Clone, Copy)]
pub(super) struct LimitOf<'a> {
    pub queue: &'a str,
    /// `None`: of the whole queue.
    pub tenant: Option<&'a str>,
    /// `None`: of the whole tenant.
    pub key: Option<&'a str>,
}

impl LimitOf<'_> {
    fn scope(&self) -> i64 {
        i64::from(self.tenant.is_some()) + i64::from(self.key.is_some())
    }

    /// Returns how many jobs run.
    pub fn running(&self, connection: &Connection) -> Result<u32, Error> {
        let running = match (self.tenant, self.key) {
            (None, _) => connection.prepare_cached(RUNNING)?.query_row([self.queue], |row| row.get(0)),
            (Some(tenant), None) => connection
                .prepare_cached(RUNNING_OF_TENANT)?
                .query_row([self.queue, tenant], |row| row.get(0)),
            (Some(tenant), Some(key)) => connection
                .prepare_cached(RUNNING_OF_KEY)?
                .query_row([self.queue, tenant, key], |row| row.get(0)),
        };
        Ok(running?)
    }

    /// Returns how many jobs may begin now, at most `most`, and if there is none, after how many microseconds one may.
    pub fn allows(
        &self,
        connection: &Connection,
        rate: StartRate,
        now_us: u64,
        most: u32,
    ) -> Result<(u32, u64), Error> {
        let Some(rate) = rate.rate() else { return Ok((most, 0)) };
        let mut allowance = self.load(connection)?;
        allowance.cap(now_us, rate);
        for begun in 0..most {
            if let Err(wait_us) = allowance.take(now_us, rate) {
                return Ok((begun, wait_us));
            }
        }
        Ok((most, 0))
    }

    /// Records that jobs have begun.
    pub fn charge(
        &self,
        connection: &Connection,
        rate: StartRate,
        now_us: u64,
        jobs: usize,
    ) -> Result<(), Error> {
        let Some(rate) = rate.rate() else { return Ok(()) };
        let mut allowance = self.load(connection)?;
        allowance.cap(now_us, rate);
        for _ in 0..jobs {
            // There is room: somebody has asked.
            let _ = allowance.take(now_us, rate);
        }
        let due_us = i64::try_from(allowance.whole_at_us()).unwrap_or(i64::MAX);
        let (tenant, key) = (self.tenant.unwrap_or_default(), self.key.unwrap_or_default());
        connection.prepare_cached(SET_DUE)?.execute(params![
            self.queue,
            self.scope(),
            tenant,
            key,
            due_us
        ])?;
        Ok(())
    }

    fn load(&self, connection: &Connection) -> Result<Allowance, Error> {
        let (tenant, key) = (self.tenant.unwrap_or_default(), self.key.unwrap_or_default());
        let due_us: Option<i64> = connection
            .prepare_cached(DUE)?
            .query_row(params![self.queue, self.scope(), tenant, key], |row| row.get(0))
            .optional()?;
        Ok(Allowance::whole_at(due_us.and_then(|due_us| u64::try_from(due_us).ok()).unwrap_or(0)))
    }
}

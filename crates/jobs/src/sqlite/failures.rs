//! Jobs that have failed for good.

use rusqlite::{Connection, params};
use starling_model::TenantName;

use crate::{Error, JobFailure, JobId};

const VERSION: &str = "UPDATE job_failure_listeners_version SET version = ?1 WHERE version <= ?1";
const REMOVE_ALL: &str = "DELETE FROM job_failure_listeners";
const ADD: &str = "INSERT INTO job_failure_listeners (tenant) VALUES (?1) ON CONFLICT DO NOTHING";
const FAILURES: &str =
    "SELECT position, event, job, queue, tenant, failed_at_ms FROM job_failures ORDER BY position LIMIT ?1";
const FORGET: &str = "DELETE FROM job_failures WHERE position = ?1";

pub(super) fn note_failures_of(
    connection: &Connection,
    tenants: &[TenantName],
    version: i64,
) -> Result<(), Error> {
    if connection.prepare_cached(VERSION)?.execute([version])? == 0 {
        return Ok(());
    }
    connection.prepare_cached(REMOVE_ALL)?.execute([])?;
    let mut statement = connection.prepare_cached(ADD)?;
    for tenant in tenants {
        statement.execute([&**tenant])?;
    }
    Ok(())
}

pub(super) fn failures(connection: &Connection, limit: u16) -> Result<Vec<JobFailure>, Error> {
    let mut statement = connection.prepare_cached(FAILURES)?;
    let found = statement.query_map(params![limit], |row| {
        Ok(JobFailure {
            position: row.get(0)?,
            event: uuid::Uuid::from_bytes(row.get(1)?),
            job: JobId::from_bytes(row.get(2)?),
            queue: row.get(3)?,
            tenant: row.get::<_, String>(4)?.into(),
            failed_at_ms: row.get(5)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn forget(connection: &Connection, positions: &[i64]) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(FORGET)?;
    for position in positions {
        statement.execute([position])?;
    }
    Ok(())
}

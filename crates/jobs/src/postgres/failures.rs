//! Jobs that have failed for good.

use starling_database::postgres::{Parameter, Pool, Statement, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::{Error, JobFailure, JobId};

/// Locks the row, so that others wait.
const VERSION: &str = "UPDATE job_failure_listeners_version SET version = greatest(version, $1)";
const REMOVE: &str = "
    DELETE FROM job_failure_listeners
    WHERE tenant <> ALL ($2::text[]) AND (SELECT version FROM job_failure_listeners_version) = $1";
const ADD: &str = "
    INSERT INTO job_failure_listeners (tenant) SELECT t.tenant FROM unnest($2::text[]) t (tenant)
    WHERE (SELECT version FROM job_failure_listeners_version) = $1 ON CONFLICT DO NOTHING";
const FAILURES: &str =
    "SELECT position, event, job, queue, tenant, failed_at FROM job_failures ORDER BY position LIMIT $1";
const FORGET: &str = "DELETE FROM job_failures WHERE position = ANY ($1)";

pub(super) async fn note_failures_of(
    database: &Pool,
    tenants: &[TenantName],
    version: i64,
) -> Result<(), Error> {
    let mut tenants: Vec<&str> = tenants.iter().map(|tenant| &**tenant).collect();
    // In one order, so that two callers can't deadlock.
    tenants.sort_unstable();
    let parameters: [Parameter<'_>; 2] = [(&version, Type::INT8), (&tenants, Type::TEXT_ARRAY)];
    let statements = [
        Statement { sql: VERSION, parameters: &parameters[..1] },
        Statement { sql: REMOVE, parameters: &parameters },
        Statement { sql: ADD, parameters: &parameters },
    ];
    database.transaction(&statements).await?;
    Ok(())
}

pub(super) async fn failures(database: &Pool, limit: u16) -> Result<Vec<JobFailure>, Error> {
    let rows = database.rows(FAILURES, &[(&i64::from(limit), Type::INT8)]).await?;
    let failure = |row: &Row| {
        Ok(JobFailure {
            position: column(row, 0)?,
            event: column(row, 1)?,
            job: JobId::from_uuid(column(row, 2)?),
            queue: column(row, 3)?,
            tenant: column::<&str>(row, 4)?.into(),
            failed_at_ms: to_ms(column(row, 5)?),
        })
    };
    rows.iter().map(failure).collect()
}

pub(super) async fn forget(database: &Pool, positions: &[i64]) -> Result<(), Error> {
    database.write(FORGET, &[(&positions, Type::INT8_ARRAY)]).await?;
    Ok(())
}

//! Beats and burials of workers, and what nodes do from time to time.

use std::time::{Duration, SystemTime};

use starling_database::postgres::{Pool, column, to_ms, to_time};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::ms;
use crate::{Beat, Burial, Error, JobId, JobState, Mark, WorkerId};

const REGISTER: &str = "
    INSERT INTO job_workers (id, node, seen_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()";
/// Has one row without a job if the worker is listed, and one more for each job that shall stop.
const BEAT: &str = "
    WITH seen AS (UPDATE job_workers SET seen_at = clock_timestamp() WHERE id = $1 RETURNING id)
    SELECT NULL::uuid, NULL::integer FROM seen
    UNION ALL SELECT c.job, c.generation FROM job_cancellations c WHERE c.worker = $1";
const BURY: &str = "SELECT workers, lost FROM starling_jobs_bury_silent_6($1, $2)";
const EXPIRE: &str = "SELECT lost, mark FROM starling_jobs_expire_leases_6($1, $2)";
const PROMOTE: &str = "SELECT promoted, mark FROM starling_jobs_promote_6($1, $2)";
const TRIM: &str = "SELECT discarded, mark FROM starling_jobs_trim_6($1, $2, $3, $4, $5, $6)";
const FOLD: &str = "SELECT folded, mark FROM starling_jobs_fold_6($1, $2)";

/// The most deltas that one statement adds to the counts.
const FOLD_MAX: i32 = 10_000;
/// The most statements of one call.
const FOLDS_MAX: usize = 10;

pub(super) async fn register(database: &Pool, worker: WorkerId, node: &str) -> Result<(), Error> {
    database.write(REGISTER, &[(&worker.uuid(), Type::UUID), (&node, Type::TEXT)]).await?;
    Ok(())
}

pub(super) async fn beat(database: &Pool, worker: WorkerId) -> Result<Beat, Error> {
    let rows = database.write(BEAT, &[(&worker.uuid(), Type::UUID)]).await?;
    let (mut listed, mut stopped) = (false, Vec::new());
    for row in &rows {
        match column::<Option<uuid::Uuid>>(row, 0)? {
            Some(job) => stopped.push((JobId::from_uuid(job), column(row, 1)?)),
            None => listed = true,
        }
    }
    Ok(if listed { Beat::Alive(stopped) } else { Beat::Buried })
}

pub(super) async fn bury_silent(database: &Pool, silence: Duration, limit: u16) -> Result<Burial, Error> {
    let parameters = &[(&ms(silence) as _, Type::INT8), (&i32::from(limit) as _, Type::INT4)];
    let rows = database.write(BURY, parameters).await?;
    let row = only(&rows)?;
    Ok(Burial { workers: count(row, 0)?, attempts: count(row, 1)? })
}

pub(super) async fn expire_leases(database: &Pool, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
    since(database, EXPIRE, since_ms, limit).await
}

pub(super) async fn promote(database: &Pool, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
    since(database, PROMOTE, since_ms, limit).await
}

/// Runs a function that begins at a time and deals with so many jobs at most. Returns their number, and where the next call begins.
async fn since(database: &Pool, sql: &str, since_ms: i64, limit: u16) -> Result<(u64, i64), Error> {
    let parameters = &[(&to_time(since_ms)? as _, Type::TIMESTAMPTZ), (&i32::from(limit) as _, Type::INT4)];
    let rows = database.write(sql, parameters).await?;
    let row = only(&rows)?;
    Ok((count(row, 0)?, time(row, 1)?))
}

pub(super) async fn trim(
    database: &Pool,
    tenant: &TenantName,
    queue: &str,
    state: JobState,
    kept: u32,
    since_ms: i64,
    limit: u16,
) -> Result<(u64, i64), Error> {
    let kept = i32::try_from(kept).unwrap_or(i32::MAX);
    let rows = database
        .write(
            TRIM,
            &[
                (&&**tenant, Type::TEXT),
                (&queue, Type::TEXT),
                (&state.number(), Type::INT2),
                (&kept, Type::INT4),
                (&i32::from(limit), Type::INT4),
                (&to_time(since_ms)?, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    let row = only(&rows)?;
    Ok((count(row, 0)?, time(row, 1)?))
}

pub(super) async fn fold(database: &Pool, since: Mark) -> Result<Mark, Error> {
    let mut mark = since;
    for _ in 0..FOLDS_MAX {
        let rows = database.write(FOLD, &[(&mark.transaction, Type::INT8), (&FOLD_MAX, Type::INT4)]).await?;
        let row = only(&rows)?;
        mark = Mark { transaction: column(row, 1)?, position: 0 };
        if column::<i64>(row, 0)? < i64::from(FOLD_MAX) {
            break;
        }
    }
    Ok(mark)
}

pub(super) fn only(rows: &[Row]) -> Result<&Row, Error> {
    rows.first().ok_or_else(|| Error::Refused("a function returned no row".into()))
}

pub(super) fn count(row: &Row, position: usize) -> Result<u64, Error> {
    Ok(u64::try_from(column::<i64>(row, position)?).unwrap_or(0))
}

fn time(row: &Row, position: usize) -> Result<i64, Error> {
    Ok(to_ms(column::<SystemTime>(row, position)?))
}

//! Limits of queues.

use starling_database::postgres::{Parameter, Pool, column};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::{Error, LIMITED_QUEUES_MAX, QueueLimits};

const LIMITS: &str = "
    SELECT queue, total_concurrency, total_rate, total_burst, tenant_concurrency, tenant_rate, tenant_burst, key_concurrency, key_rate, key_burst
    FROM job_limits ORDER BY queue";
const PUT: &str = "SELECT starling_limits_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const REMOVE: &str = "SELECT starling_limits_remove($1, $2)";
const TIDY: &str = "SELECT FROM starling_limits_tidy_6($1)";

/// The most blocked jobs that one call makes ready, and the most rows that one call tidies up.
const STEP: i32 = 5_000;

pub(super) async fn limits(database: &Pool) -> Result<Vec<(String, QueueLimits)>, Error> {
    let rows = database.rows(LIMITS, &[]).await?;
    let limits = rows.iter().map(|row| Ok((column(row, 0)?, limits_of(row)?)));
    // What is being removed has no limits any more.
    let limits: Vec<(String, QueueLimits)> = limits.collect::<Result<_, Error>>()?;
    Ok(limits.into_iter().filter(|(_, limits)| !limits.is_none()).collect())
}

fn limits_of(row: &Row) -> Result<QueueLimits, Error> {
    let mut columns = [None; 9];
    for (place, number) in columns.iter_mut().enumerate() {
        *number = column(row, place + 1)?;
    }
    Ok(QueueLimits::of_columns(columns))
}

pub(super) async fn put(database: &Pool, queue: &str, limits: &QueueLimits) -> Result<bool, Error> {
    let columns = limits.columns();
    let at_most = i32::try_from(LIMITED_QUEUES_MAX).unwrap_or(i32::MAX);
    let mut parameters: Vec<Parameter<'_>> = vec![(&queue, Type::TEXT)];
    parameters.extend(columns.iter().map(|number| (number as _, Type::INT4)));
    parameters.push((&at_most, Type::INT4));
    let rows = database.write(PUT, &parameters).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0))
}

pub(super) async fn remove(database: &Pool, queue: &str) -> Result<bool, Error> {
    let mut was_there = false;
    loop {
        let rows = database.write(REMOVE, &[(&queue, Type::TEXT), (&STEP, Type::INT4)]).await?;
        match rows.first().map_or(Ok(0), |row| column::<i16>(row, 0))? {
            1 => was_there = true,
            2 => return Ok(true),
            _ => return Ok(was_there),
        }
    }
}

pub(super) async fn tidy(database: &Pool) -> Result<(), Error> {
    database.write(TIDY, &[(&STEP, Type::INT4)]).await?;
    Ok(())
}

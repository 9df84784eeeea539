//! The incarnation of the database.

use starling_database::postgres::{Parameter, Pool, column};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::batch::to_database;
use crate::{ConversationId, Error, Seq, incarnation_of};

const CURRENT: &str = "SELECT starling_incarnation()";
const RENEW: &str = "SELECT starling_reincarnate($1)";
const REPORT: &str = "SELECT starling_report_head($1, $2, $3)";

/// Returns the incarnation. If none is valid, another one begins.
pub(super) async fn current(database: &Pool) -> Result<String, Error> {
    match known(database).await? {
        Some(incarnation) => Ok(incarnation),
        None => restored(database).await,
    }
}

/// Begins another incarnation in any case.
pub(super) async fn renew(database: &Pool) -> Result<String, Error> {
    let seen = known(database).await?;
    renew_after(database, seen.as_deref()).await
}

/// Begins another incarnation if the database has fewer messages of a conversation than it had before.
pub(super) async fn report_head(
    database: &Pool,
    id: ConversationId,
    known: Seq,
    log: &str,
) -> Result<bool, Error> {
    let (known, seen) = (to_database(known.get()), incarnation_of(log));
    let rows =
        database.write(REPORT, &[(&id.get(), Type::INT8), (&known, Type::INT8), (&seen, Type::TEXT)]).await?;
    let is_set_back: bool = rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or_default();
    if is_set_back {
        tracing::warn!(
            "the database was reset to an earlier state; clients are told to discard newer messages"
        );
    }
    Ok(is_set_back)
}

/// Returns rows with a log id in the column `log`. If that is null, no incarnation is valid: another one begins, and the rows are read
/// again.
pub(super) async fn rows_with_log(
    database: &Pool,
    sql: &str,
    parameters: &[Parameter<'_>],
    log: usize,
) -> Result<Vec<Row>, Error> {
    let rows = database.rows(sql, parameters).await?;
    let first: Option<Option<&str>> = rows.first().map(|row| column(row, log)).transpose()?;
    if first != Some(None) {
        return Ok(rows);
    }
    restored(database).await?;
    database.rows(sql, parameters).await
}

async fn known(database: &Pool) -> Result<Option<String>, Error> {
    let rows = database.rows(CURRENT, &[]).await?;
    Ok(rows.first().map(|row| column(row, 0)).transpose()?.flatten())
}

async fn restored(database: &Pool) -> Result<String, Error> {
    tracing::warn!("the database was restored from a dump; clients are told to discard newer messages");
    renew_after(database, None).await
}

async fn renew_after(database: &Pool, seen: Option<&str>) -> Result<String, Error> {
    let rows = database.write(RENEW, &[(&seen, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| Error::Refused("no answer to another incarnation".into()))?;
    column(row, 0)
}

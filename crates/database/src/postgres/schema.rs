//! Checking the server's version, and bringing a schema up to date.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::error;
use super::pool::Pool;
use super::row::column;
use super::statement::Parameter;
use crate::{Error, Schema};

/// The oldest version that the tests run against.
const SERVER_VERSION_MIN: i32 = 15;
/// How long a migration may take, including the wait for another node that migrates. It may rewrite large tables.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The number of the lock that lets one node migrate at a time: the bytes of "starling".
const LOCK: i64 = i64::from_be_bytes(*b"starling");

/// The only encoding that can store every text.
const ENCODING: &str = "UTF8";

const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('server_encoding'), current_database(), current_setting('synchronous_commit')";
// Not to_regclass, which may use a cache that does not have another node's migration yet.
const HAS_HISTORY: &str = "SELECT EXISTS (
    SELECT FROM pg_class WHERE relname = $1 AND relkind = 'r' AND pg_table_is_visible(oid))";

/// Checks that the server and the schema can be used.
///
/// # Errors
/// [`Error::Unsupported`] if the server is too old or its encoding can't hold every text, or if the schema is newer than this program.
pub async fn check(database: &Pool, schema: &Schema) -> Result<(), Error> {
    for row in database.rows(SERVER, &[]).await? {
        let (number, name): (i32, &str) = (column(&row, 0)?, column(&row, 1)?);
        let (encoding, database_name): (&str, &str) = (column(&row, 2)?, column(&row, 3)?);
        if number / 10_000 < SERVER_VERSION_MIN {
            return Err(Error::Unsupported(format!(
                "the database is PostgreSQL {name}, but Starling needs {SERVER_VERSION_MIN} or newer"
            )));
        }
        if column::<&str>(&row, 4)? == "off" && database.server().is_first_warning() {
            tracing::warn!(
                "the database has synchronous_commit = off: where its server crashes, messages are lost that Starling has acknowledged"
            );
        }
        if encoding != ENCODING {
            return Err(Error::Unsupported(format!(
                "the database {database_name} has the encoding {encoding}, which can't hold every text; Starling needs UTF8. Make \
                 another one: CREATE DATABASE {database_name}_utf8 ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C.UTF-8'"
            )));
        }
    }
    is_current(database, schema).await.map(drop)
}

/// Returns whether the schema is up to date.
///
/// # Errors
/// [`Error::Unsupported`] if it is newer than this program.
pub async fn is_current(database: &Pool, schema: &Schema) -> Result<bool, Error> {
    let mut version = 0;
    for row in database.rows(HAS_HISTORY, &[(&schema.history, Type::TEXT)]).await? {
        if column(&row, 0)? {
            for row in database.rows(&version_of(schema), &[]).await? {
                version = column(&row, 0)?;
            }
        }
    }
    Ok(schema.missing_after(version)?.is_empty())
}

/// Applies all missing migrations in one transaction. Nodes that start at the same time wait for each other.
///
/// # Errors
/// Those of [`check`], and of the migrations.
pub async fn migrate(database: &Pool, schema: &Schema) -> Result<(), Error> {
    check(database, schema).await?;
    database
        .locked_transaction(LOCK, MIGRATION_TIMEOUT, async |transaction| apply(transaction, schema).await)
        .await
}

async fn apply(transaction: &Transaction<'_>, schema: &Schema) -> Result<(), Error> {
    let failed = |error: tokio_postgres::Error| error::of_query(&error);
    let has_history: [Parameter<'_>; 1] = [(&schema.history, Type::TEXT)];
    let history = transaction.query_typed(HAS_HISTORY, &has_history).await.map_err(failed)?;
    let mut version = 0;
    match history.first().map(|row| column::<bool>(row, 0)).transpose()? {
        Some(true) => {
            for row in transaction.query_typed(&version_of(schema), &[]).await.map_err(failed)? {
                version = column(&row, 0)?;
            }
        }
        _ => transaction.batch_execute(&create_history_of(schema)).await.map_err(failed)?,
    }
    for migration in schema.missing_after(version)? {
        transaction.batch_execute(migration.postgres).await.map_err(failed)?;
        let note: [Parameter<'_>; 2] = [(&migration.version, Type::INT4), (&migration.name, Type::TEXT)];
        transaction.query_typed(&note_of(schema), &note).await.map_err(failed)?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

fn version_of(schema: &Schema) -> String {
    format!("SELECT coalesce(max(version), 0) FROM {}", schema.history)
}

fn create_history_of(schema: &Schema) -> String {
    format!(
        "CREATE TABLE {} (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        schema.history
    )
}

fn note_of(schema: &Schema) -> String {
    format!("INSERT INTO {} (version, name) VALUES ($1, $2)", schema.history)
}

//! Looking at the server's version and bringing the schema up to date.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::database::{Database, Parameter};
use super::error;
use super::row::column;
use crate::Error;
use crate::migration::missing_after;

/// The oldest version that the tests run against.
const SERVER_VERSION_MIN: i32 = 15;
/// How long a migration may take, with the wait for another node that does it; it may rewrite large tables.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Number of the lock that makes nodes migrate one after the other: the bytes of "starling".
const LOCK: i64 = i64::from_be_bytes(*b"starling");

/// The one encoding that holds whatever clients may write.
const ENCODING: &str = "UTF8";

const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('server_encoding'), current_database(), current_setting('synchronous_commit')";
// Not by to_regclass: that may answer from a cache which another node's migration has not reached yet.
const HAS_HISTORY: &str = "SELECT EXISTS (
    SELECT FROM pg_class WHERE relname = 'starling_migrations' AND relkind = 'r' AND pg_table_is_visible(oid))";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM starling_migrations";
const CREATE_HISTORY: &str = "CREATE TABLE starling_migrations (
    version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";
const NOTE: &str = "INSERT INTO starling_migrations (version, name) VALUES ($1, $2)";

/// Whether the server and the schema can be used.
pub(super) async fn check(database: &Database) -> Result<(), Error> {
    for row in database.rows(SERVER, &[]).await? {
        let (number, name): (i32, &str) = (column(&row, 0)?, column(&row, 1)?);
        let (encoding, database_name): (&str, &str) = (column(&row, 2)?, column(&row, 3)?);
        if number / 10_000 < SERVER_VERSION_MIN {
            return Err(Error::Unsupported(format!(
                "the database is PostgreSQL {name}, but Starling needs {SERVER_VERSION_MIN} or newer"
            )));
        }
        if column::<&str>(&row, 4)? == "off" && database.is_first_warning() {
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
    is_current(database).await.map(drop)
}

/// Whether the schema is up to date; an error if it is newer than this program.
pub(super) async fn is_current(database: &Database) -> Result<bool, Error> {
    let mut version = 0;
    for row in database.rows(HAS_HISTORY, &[]).await? {
        if column(&row, 0)? {
            for row in database.rows(VERSION, &[]).await? {
                version = column(&row, 0)?;
            }
        }
    }
    Ok(missing_after(version)?.is_empty())
}

/// Applies what is missing, in one transaction: all of it or nothing.
pub(super) async fn migrate(database: &Database) -> Result<(), Error> {
    check(database).await?;
    database.locked_transaction(LOCK, MIGRATION_TIMEOUT, apply_missing).await
}

async fn apply_missing(transaction: &Transaction<'_>) -> Result<(), Error> {
    let failed = |error: tokio_postgres::Error| error::of_query(&error);
    let history = transaction.query_typed(HAS_HISTORY, &[]).await.map_err(failed)?;
    let mut version = 0;
    match history.first().map(|row| column::<bool>(row, 0)).transpose()? {
        Some(true) => {
            for row in transaction.query_typed(VERSION, &[]).await.map_err(failed)? {
                version = column(&row, 0)?;
            }
        }
        _ => transaction.batch_execute(CREATE_HISTORY).await.map_err(failed)?,
    }
    for migration in missing_after(version)? {
        transaction.batch_execute(migration.postgres).await.map_err(failed)?;
        let note: [Parameter<'_>; 2] = [(&migration.version, Type::INT4), (&migration.name, Type::TEXT)];
        transaction.query_typed(NOTE, &note).await.map_err(failed)?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

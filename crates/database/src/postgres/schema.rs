//! Checking the server's version, and bringing a schema up to date.

use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use super::error;
use super::pool::Pool;
use super::row::column;
use super::statement::Parameter;
use crate::migration::Applied;
use crate::{Error, Schema, SchemaStatus};

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
const HISTORY: &str = "SELECT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'oldest_program' AND NOT a.attisdropped)
    FROM pg_class c WHERE c.relname = $1 AND c.relkind = 'r' AND pg_table_is_visible(c.oid)";

/// Checks that the server and the schema can be used.
///
/// # Errors
/// [`Error::Unsupported`] if the server is too old or its encoding can't hold every text, or if the schema is newer than this
/// program, which can't use it.
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
    schema_status(database, schema).await.map(drop)
}

/// Returns how the schema of the database compares with this one.
///
/// # Errors
/// [`Error::Unsupported`] if it is newer than this program, which can't use it.
pub async fn schema_status(database: &Pool, schema: &Schema) -> Result<SchemaStatus, Error> {
    let mut applied = Applied::default();
    if !database.rows(HISTORY, &[(&schema.history, Type::TEXT)]).await?.is_empty() {
        for row in database.rows(&applied_of(schema), &[(&schema.version(), Type::INT4)]).await? {
            applied = read_applied(&row)?;
        }
    }
    schema.compare(applied)
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
    let history: [Parameter<'_>; 1] = [(&schema.history, Type::TEXT)];
    let history = transaction.query_typed(HISTORY, &history).await.map_err(failed)?;
    let is_complete = history.first().map(|row| column::<bool>(row, 0)).transpose()?;
    let mut applied = Applied::default();
    if is_complete.is_some() {
        let known: [Parameter<'_>; 1] = [(&schema.version(), Type::INT4)];
        for row in transaction.query_typed(&applied_of(schema), &known).await.map_err(failed)? {
            applied = read_applied(&row)?;
        }
    }
    let missing = schema.missing_in(applied)?;
    match is_complete {
        None => transaction.batch_execute(&create_history_of(schema)).await.map_err(failed)?,
        Some(false) if !missing.is_empty() => {
            transaction.batch_execute(&complete_history_of(schema)).await.map_err(failed)?;
        }
        Some(_) => {}
    }
    for migration in missing {
        transaction.batch_execute(migration.postgres).await.map_err(failed)?;
        let oldest = schema.oldest_program(migration.version);
        let note: [Parameter<'_>; 3] =
            [(&migration.version, Type::INT4), (&migration.name, Type::TEXT), (&oldest, Type::INT4)];
        transaction.query_typed(&note_of(schema), &note).await.map_err(failed)?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

fn read_applied(row: &Row) -> Result<Applied, Error> {
    Ok(Applied { version: column(row, 0)?, oldest_program: column(row, 1)? })
}

/// The newest version, and the oldest program that can use what was applied after `$1`. A row that does not tell needs a program that knows its
/// migration. The JSON of a row has the column only where the table has it.
fn applied_of(schema: &Schema) -> String {
    format!(
        "SELECT coalesce(max(version), 0),
            max(coalesce((to_jsonb(history) ->> 'oldest_program')::int, version)) FILTER (WHERE version > $1)
         FROM {} AS history",
        schema.history
    )
}

fn create_history_of(schema: &Schema) -> String {
    format!(
        "CREATE TABLE {} (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),
            oldest_program integer)",
        schema.history
    )
}

/// For a history that was made before migrations told which programs can use them. Nodes that start meanwhile wait for the end of the
/// transaction.
fn complete_history_of(schema: &Schema) -> String {
    format!("ALTER TABLE {} ADD COLUMN oldest_program integer", schema.history)
}

fn note_of(schema: &Schema) -> String {
    format!("INSERT INTO {} (version, name, oldest_program) VALUES ($1, $2, $3)", schema.history)
}

//! Bringing a schema up to date.

use rusqlite::Connection;

use crate::migration::Applied;
use crate::{Error, Schema, SchemaStatus};

/// Returns how the schema of the file compares with this one. Fails if it is newer than this program, which can't use it.
pub(super) fn status(connection: &Connection, schema: &Schema) -> Result<SchemaStatus, Error> {
    schema.compare(applied(connection, schema)?)
}

/// Applies all missing migrations, within the writer's transaction.
pub(super) fn migrate(connection: &Connection, schema: &Schema) -> Result<(), Error> {
    let history = schema.history;
    let missing = schema.missing_in(applied(connection, schema)?)?;
    if !missing.is_empty() {
        prepare_history(connection, schema)?;
    }
    for migration in missing {
        connection.execute_batch(migration.sqlite)?;
        connection.execute(
            &format!("INSERT INTO {history} (version, name, oldest_program) VALUES (?1, ?2, ?3)"),
            (migration.version, migration.name, schema.oldest_program(migration.version)),
        )?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

/// Creates the history, or adds the column that the history of an older program lacks.
fn prepare_history(connection: &Connection, schema: &Schema) -> Result<(), Error> {
    let history = schema.history;
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {history} (
            version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            oldest_program INTEGER
        ) STRICT"
    ))?;
    if !tells_oldest_program(connection, schema)? {
        connection.execute_batch(&format!("ALTER TABLE {history} ADD COLUMN oldest_program INTEGER"))?;
    }
    Ok(())
}

fn applied(connection: &Connection, schema: &Schema) -> Result<Applied, Error> {
    let known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    if connection.query_row(known, [schema.history], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Applied::default());
    }
    // A migration that does not tell needs a program that knows it.
    let oldest = if tells_oldest_program(connection, schema)? {
        "coalesce(oldest_program, version)"
    } else {
        "version"
    };
    let newest = format!(
        "SELECT coalesce(max(version), 0), max({oldest}) FILTER (WHERE version > ?1) FROM {}",
        schema.history
    );
    Ok(connection.query_row(&newest, [schema.version()], |row| {
        Ok(Applied { version: row.get(0)?, oldest_program: row.get(1)? })
    })?)
}

fn tells_oldest_program(connection: &Connection, schema: &Schema) -> Result<bool, Error> {
    let column = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = 'oldest_program'";
    Ok(connection.query_row(column, [schema.history], |row| row.get::<_, i64>(0))? > 0)
}

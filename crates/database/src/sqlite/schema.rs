//! Bringing a schema up to date.

use rusqlite::Connection;

use crate::{Error, Schema};

/// Returns whether the schema is up to date. Fails if it is newer than this program.
pub(super) fn is_current(connection: &Connection, schema: &Schema) -> Result<bool, Error> {
    Ok(schema.missing_after(version(connection, schema)?)?.is_empty())
}

/// Applies all missing migrations, within the writer's transaction.
pub(super) fn migrate(connection: &Connection, schema: &Schema) -> Result<(), Error> {
    let history = schema.history;
    for migration in schema.missing_after(version(connection, schema)?)? {
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {history} (
                version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
            ) STRICT"
        ))?;
        connection.execute_batch(migration.sqlite)?;
        connection.execute(
            &format!("INSERT INTO {history} (version, name) VALUES (?1, ?2)"),
            (migration.version, migration.name),
        )?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

fn version(connection: &Connection, schema: &Schema) -> Result<i32, Error> {
    let known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    if connection.query_row(known, [schema.history], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(0);
    }
    let newest = format!("SELECT coalesce(max(version), 0) FROM {}", schema.history);
    Ok(connection.query_row(&newest, [], |row| row.get(0))?)
}

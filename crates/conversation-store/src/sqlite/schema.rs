//! Bringing the schema up to date.

use rusqlite::Connection;

use crate::Error;
use crate::migration::missing_after;

/// Whether the schema can be used.
pub(super) fn check(connection: &Connection) -> Result<(), Error> {
    is_current(connection).map(drop)
}

/// Whether the schema is up to date; an error if it is newer than this program.
pub(super) fn is_current(connection: &Connection) -> Result<bool, Error> {
    Ok(missing_after(version(connection)?)?.is_empty())
}

/// Applies what is missing, within the writer's transaction: all of it or nothing.
pub(super) fn migrate(connection: &Connection) -> Result<(), Error> {
    for migration in missing_after(version(connection)?)? {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS starling_migrations (
                version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
            ) STRICT",
        )?;
        connection.execute_batch(migration.sqlite)?;
        connection.execute(
            "INSERT INTO starling_migrations (version, name) VALUES (?1, ?2)",
            (migration.version, migration.name),
        )?;
        tracing::info!(version = migration.version, name = migration.name, "migrated the database");
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<i32, Error> {
    let known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'starling_migrations'";
    if connection.query_row(known, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM starling_migrations";
    Ok(connection.query_row(newest, [], |row| row.get(0))?)
}

//! The incarnation of the database.

use rusqlite::{Connection, OptionalExtension};

use super::clock::now_ms;
use crate::batch::to_database;
use crate::{ConversationId, Error, Seq, incarnation_of};

const CURRENT: &str = "SELECT id FROM incarnation";
const RENEW: &str = "
    INSERT INTO incarnation (one, id, begun_at_ms) VALUES (1, lower(hex(randomblob(4))), ?1)
    ON CONFLICT (one) DO UPDATE SET id = excluded.id, begun_at_ms = excluded.begun_at_ms
    RETURNING id";
const IS_SHORTER: &str = "SELECT EXISTS (SELECT 1 FROM conversations WHERE id = ?1 AND head < ?2)";

pub(super) fn current(connection: &Connection) -> Result<String, Error> {
    Ok(connection.query_row(CURRENT, [], |row| row.get(0))?)
}

/// Begins another incarnation.
pub(super) fn renew(connection: &Connection) -> Result<String, Error> {
    Ok(connection.query_row(RENEW, [now_ms()], |row| row.get(0))?)
}

/// Begins another incarnation if the database has fewer messages of a conversation than it had before.
pub(super) fn report_head(
    connection: &Connection,
    id: ConversationId,
    known: Seq,
    log: &str,
) -> Result<bool, Error> {
    if !connection.query_row(IS_SHORTER, (id.get(), to_database(known.get())), |row| row.get(0))? {
        return Ok(false);
    }
    let current: Option<String> = connection.query_row(CURRENT, [], |row| row.get(0)).optional()?;
    if current.as_deref() == Some(incarnation_of(log)) {
        renew(connection)?;
        tracing::warn!(
            "the database was reset to an earlier state; clients are told to discard newer messages"
        );
    }
    Ok(true)
}

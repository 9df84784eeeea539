//! Sessions that operators ended.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::clock;
use crate::{ENDED_SESSIONS_MAX, Error};

const END: &str =
    "INSERT INTO ended_sessions (session, ended_at_ms) VALUES (?1, ?2) ON CONFLICT (session) DO NOTHING";
const FORGET: &str = "DELETE FROM ended_sessions WHERE ended_at_ms < ?1";
const LATEST: &str =
    "SELECT session FROM ended_sessions WHERE ended_at_ms > ?1 ORDER BY ended_at_ms DESC LIMIT ?2";
const IS_ENDED: &str = "SELECT 1 FROM ended_sessions WHERE session = ?1";

pub(super) fn end(connection: &Connection, session: &str, kept: Duration) -> Result<(), Error> {
    connection.prepare_cached(END)?.execute((session, clock::now_ms()))?;
    connection.prepare_cached(FORGET)?.execute([ago_ms(kept)])?;
    Ok(())
}

pub(super) fn latest(connection: &Connection, within: Duration) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare_cached(LATEST)?;
    let rows = statement.query_map((ago_ms(within), ENDED_SESSIONS_MAX), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn among(connection: &Connection, sessions: &[String]) -> Result<Vec<String>, Error> {
    let mut statement = connection.prepare_cached(IS_ENDED)?;
    let mut ended = Vec::new();
    for session in sessions {
        if statement.query_row([session], |_| Ok(())).optional()?.is_some() {
            ended.push(session.clone());
        }
    }
    Ok(ended)
}

fn ago_ms(time: Duration) -> i64 {
    clock::now_ms().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

//! Sessions that operators ended.

use std::time::Duration;

use starling_database::postgres::{Pool, column};
use tokio_postgres::types::Type;

use crate::{ENDED_SESSIONS_MAX, Error};

const END: &str = "
    INSERT INTO ended_sessions (session, ended_at) VALUES ($1, clock_timestamp()) ON CONFLICT (session) DO NOTHING";
const FORGET: &str =
    "DELETE FROM ended_sessions WHERE ended_at < clock_timestamp() - make_interval(secs => $1)";
const LATEST: &str = "
    SELECT session FROM ended_sessions WHERE ended_at > clock_timestamp() - make_interval(secs => $1)
    ORDER BY ended_at DESC LIMIT $2";
const AMONG: &str = "SELECT session FROM ended_sessions WHERE session = ANY ($1)";

pub(super) async fn end(database: &Pool, session: &str, kept: Duration) -> Result<(), Error> {
    database.rows(END, &[(&session, Type::TEXT)]).await?;
    let seconds = kept.as_secs_f64();
    database.rows(FORGET, &[(&seconds, Type::FLOAT8)]).await.map(drop)
}

pub(super) async fn latest(database: &Pool, within: Duration) -> Result<Vec<String>, Error> {
    let seconds = within.as_secs_f64();
    let parameters = [(&seconds as _, Type::FLOAT8), (&i64::from(ENDED_SESSIONS_MAX) as _, Type::INT8)];
    let rows = database.rows(LATEST, &parameters).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

pub(super) async fn among(database: &Pool, sessions: &[String]) -> Result<Vec<String>, Error> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let rows = database.rows(AMONG, &[(&sessions, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

//! A connection outside of the pool, on which its caller may leave something.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Row;

use super::error;
use super::pool::Pool;
use super::session::Session;
use super::statement::Parameter;
use crate::Error;

/// The server must not close a connection because nothing is asked on it.
const STAY_OPEN: &str = "SELECT set_config('idle_session_timeout', '0', false)";

/// A connection of its own that leads to the server itself. What a statement leaves on it, such as a lock, lasts until it ends. It ends when
/// this is dropped, at the latest.
pub struct OwnSession {
    session: Session,
    statement_timeout: Duration,
}

impl Pool {
    /// Opens a connection beside the pool. `None` where nothing may be left on a connection: a pooler stands between, or the pool was told so
    /// ([`PreparedStatements::Never`](super::PreparedStatements::Never)).
    ///
    /// # Errors
    /// [`Error`] if there is no connection.
    pub async fn own_session(&self) -> Result<Option<OwnSession>, Error> {
        let opened = self.sessions().create_settled().await.map_err(|error| error::of_query(&error))?;
        let Some(session) = opened else { return Ok(None) };
        let own = OwnSession { session, statement_timeout: self.statement_timeout() };
        own.rows(STAY_OPEN, &[]).await?;
        Ok(Some(own))
    }
}

impl OwnSession {
    /// Runs one statement.
    ///
    /// # Errors
    /// [`Error`] of the statement, or if there was no answer in time. Then this should be dropped.
    pub async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        match timeout(self.statement_timeout, self.session.query_typed(sql, parameters)).await {
            Ok(answer) => answer.map_err(|error| error::of_query(&error)),
            Err(_) => Err(Error::Unavailable(format!("no answer within {:?}", self.statement_timeout))),
        }
    }

    /// Waits until the connection has ended, for any reason.
    pub async fn ended(&mut self) {
        self.session.ended().await;
    }
}

//! Connections to a server, and what stays on them from one transaction to the next.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement as Prepared};

use super::config::{PoolConfig, PreparedStatements};
use super::error::chain;
use super::hosts::Connect;
use super::pooler;
use super::statement::Statement;

/// The most statements that stay prepared on a connection. Starling has fewer.
const PREPARED_MAX: usize = 200;
/// The part of a statement's time that it may wait for one lock. The rest is for its rows that are not locked.
const LOCK_SHARE: u128 = 4;

/// Starling's settings for all statements of a pool, whatever the defaults of the database and of the role are.
///
/// Other isolation levels roll back transactions that touch the same rows, and a short `statement_timeout` cancels statements that would
/// finish in time. `default_transaction_read_only` is respected: hosters set it when the disk is full, and operators to freeze a database.
pub(super) struct Settings(Vec<(&'static str, String)>);

/// Further settings where plans are kept. A plan must also suit the table when it has grown: one that was made while it was empty would read
/// all of it, although every look-up has an index. Compiling a plan takes longer than any of Starling's statements.
const OF_KEPT_PLANS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

impl Settings {
    pub(super) fn of(config: &PoolConfig) -> Self {
        let statement_ms = config.statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        let lock_ms = (statement_ms / LOCK_SHARE).max(1);
        let mut settings = vec![
            ("statement_timeout", statement_ms.to_string()),
            ("lock_timeout", lock_ms.to_string()),
            ("idle_in_transaction_session_timeout", "0".to_owned()),
        ];
        settings.extend(config.settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Self(settings)
    }

    /// Returns the statement that begins a transaction with these settings.
    pub(super) fn begin(&self) -> String {
        let settings = self.0.iter().map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
        format!("BEGIN ISOLATION LEVEL READ COMMITTED{}", settings.collect::<String>())
    }

    /// Returns the statement that makes these settings for the connection, if this process serves it, and returns a row then.
    fn settle(&self, process: i32) -> String {
        let own = self.0.iter().map(|(name, value)| (*name, &**value));
        let settings = own.chain(OF_KEPT_PLANS).chain([("default_transaction_isolation", "read committed")]);
        let calls: Vec<String> =
            settings.map(|(name, value)| format!("set_config('{name}', '{value}', false)")).collect();
        format!("SELECT {} WHERE pg_backend_pid() = {process}", calls.join(", "))
    }
}

/// Opens the connections of a pool.
pub(super) struct Sessions {
    connect: Box<dyn Connect>,
    settings: Settings,
    prepared_statements: PreparedStatements,
}

impl Sessions {
    pub(super) fn new(
        connect: impl Connect + 'static,
        settings: Settings,
        prepared_statements: PreparedStatements,
    ) -> Self {
        Self { connect: Box::new(connect), settings, prepared_statements }
    }

    /// Opens a connection on which things may be left: it leads to the server itself, and has the settings. `None` if there can't be one.
    pub(super) async fn create_settled(&self) -> Result<Option<Session>, Error> {
        if self.prepared_statements == PreparedStatements::Never {
            return Ok(None);
        }
        let (client, task) = self.connect.connect().await?;
        let is_settled = self.settle(&client).await;
        let session = Session { client, task, is_settled, prepared: None };
        Ok(is_settled.then_some(session))
    }

    /// Makes the settings for the whole connection, unless a pooler stands between. Returns whether they were made.
    async fn settle(&self, client: &Client) -> bool {
        let Some(process) = pooler::announced_process(client).await else { return false };
        match client.simple_query(&self.settings.settle(process)).await {
            Ok(answer) => answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))),
            // The role's own limit may be too short. Each transaction makes its own settings then.
            Err(error) => {
                tracing::debug!(error = chain(&error), "settings were not made for a connection");
                false
            }
        }
    }
}

impl Manager for Sessions {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        let (client, task) = self.connect.connect().await?;
        let mut session = Session { client, task, is_settled: false, prepared: None };
        if self.prepared_statements != PreparedStatements::Never {
            session.is_settled = self.settle(&session.client).await;
        }
        if session.is_settled || self.prepared_statements == PreparedStatements::Always {
            session.prepared = Some(Mutex::default());
        }
        Ok(session)
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        if session.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}

/// A connection.
pub(super) struct Session {
    client: Client,
    /// Works on the connection.
    task: JoinHandle<()>,
    is_settled: bool,
    /// The statements that were prepared on this connection, by their text. `None`: none may be.
    prepared: Option<Mutex<HashMap<Box<str>, Prepared>>>,
}

impl Session {
    /// Whether Starling's settings hold for the whole connection. Otherwise each transaction needs its own.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Returns when the connection has ended.
    pub(super) async fn ended(&mut self) {
        // A task must not be awaited once more after its end.
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }

    /// Returns a statement that is prepared on this connection, if that is allowed. Prepares it at its first use.
    pub(super) async fn prepared(&self, statement: Statement<'_>) -> Result<Option<Prepared>, Error> {
        let Some(prepared) = &self.prepared else { return Ok(None) };
        if let Some(found) = prepared.lock().get(statement.sql) {
            return Ok(Some(found.clone()));
        }
        if prepared.lock().len() >= PREPARED_MAX {
            return Ok(None);
        }
        let types: Vec<Type> = statement.parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let made = self.client.prepare_typed(statement.sql, &types).await?;
        prepared.lock().insert(statement.sql.into(), made.clone());
        Ok(Some(made))
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

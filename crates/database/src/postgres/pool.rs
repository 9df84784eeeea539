//! A pool of connections to one server, and the calls that it offers.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::QueueMode;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{IsolationLevel, NoTls, Row, Transaction};

use super::config::PoolConfig;
use super::connection::Connection;
use super::dsn::Dsn;
use super::error::{self, Cause, Failed};
use super::hosts::Hosts;
use super::outage::{self, Outage};
use super::server::Server;
use super::session::{Session, Sessions, Settings};
use super::statement::{Parameter, Statement};
use super::tls_stream::Tls;
use crate::{Error, PoolStatus};

/// A pool of connections to one server. Clones share the connections.
#[derive(Clone)]
pub struct Pool {
    /// The pool's name.
    name: &'static str,
    connections: deadpool::managed::Pool<Sessions>,
    tls: Option<Tls>,
    statement_timeout: Duration,
    /// The statement that begins a transaction with Starling's settings, where the connection does not have them.
    begin: Arc<str>,
    server: Server,
}

/// Limits how long a migration waits for a table's lock. It is tried again afterwards.
const SHORT_LOCK_WAIT: &str = "SELECT set_config('lock_timeout', '2s', true)";
/// Removes the time limits of the database and of the role for one transaction, since a migration may take long.
const NO_TIMEOUTS: &str = "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
    ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')";
/// How often a write is repeated at once if it was rolled back because of another transaction, or cancelled before its settings applied.
const REPEATS: usize = 4;

impl Pool {
    /// Makes a pool of at most `size_max` connections, named after its server. Connects to nothing yet.
    ///
    /// Should be called within a Tokio runtime; otherwise idle connections are not closed.
    ///
    /// # Errors
    /// [`Error::Address`] if the URL or a file that it names can't be used.
    pub fn new(name: &'static str, url: &str, config: &PoolConfig, size_max: usize) -> Result<Self, Error> {
        let mut dsn = Dsn::parse(url)?;
        // The limit for each address of each host, for the whole set-up of a connection.
        let connect_timeout = dsn.config.get_connect_timeout().copied().unwrap_or(config.connect_timeout);
        dsn.config.connect_timeout(connect_timeout).keepalives_idle(Duration::from_secs(15));
        // The kernel also notices a silent server on connections that nobody waits for.
        dsn.config.tcp_user_timeout(config.statement_timeout.saturating_mul(2));
        let tls = dsn.tls(config.ca_file.as_deref())?;
        let settings = Settings::of(config);
        let begin = settings.begin();
        let sessions = match &tls {
            Some(tls) => {
                let hosts = Hosts::of(&dsn.config, tls.clone(), connect_timeout);
                Sessions::new(hosts, settings, config.prepared_statements)
            }
            None => {
                let hosts = Hosts::of(&dsn.config, NoTls, connect_timeout);
                Sessions::new(hosts, settings, config.prepared_statements)
            }
        };
        let connections = deadpool::managed::Pool::builder(sessions)
            .max_size(size_max.max(1))
            .wait_timeout(Some(config.wait_timeout))
            // `Hosts` limits the time of each attempt.
            .create_timeout(None)
            .recycle_timeout(Some(config.recycle_timeout))
            // The connection that was used last is used next, so that the others become idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Address(error.to_string()))?;
        let pool = Self {
            name,
            connections,
            tls,
            statement_timeout: config.statement_timeout,
            begin: begin.into(),
            server: Server::new(name),
        };
        pool.close_idle_connections(config.idle_timeout);
        Ok(pool)
    }

    /// Makes this another pool of the same server as `other`. They share what they learn about the server, and log it once.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.server = other.server.clone();
        self
    }

    /// Runs one statement that only reads, in one round trip.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::Unsupported`].
    pub async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let statement = Statement { sql, parameters };
        let mut answer = self.read(statement).await;
        let by_defaults = |failed: &Failed| matches!(failed.cause, Cause::Defaults | Cause::Lock);
        if answer.as_ref().is_err_and(by_defaults) && !self.server.reads_need_transaction() {
            self.server.note_that_reads_need_transaction();
            answer = self.read(statement).await;
        } else if answer.as_ref().is_err_and(|failed| failed.cause == Cause::Conflict) {
            answer = self.read(statement).await;
        }
        Ok(self.noted(answer)?)
    }

    /// Runs one statement that writes, as a transaction of its own in one round trip.
    ///
    /// # Errors
    /// [`Failed`], with what may have caused it.
    pub async fn write(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failed> {
        self.transaction(&[Statement { sql, parameters }]).await.map(of_one)
    }

    /// Runs statements as one transaction in one round trip, and returns the rows of each. All are sent before the first answer comes. The
    /// transaction is repeated at once if a concurrent one made it fail, so no statement may have an effect outside the database.
    ///
    /// # Errors
    /// [`Failed`] for the first statement that fails; nothing is written then.
    pub async fn transaction(&self, statements: &[Statement<'_>]) -> Result<Vec<Vec<Row>>, Failed> {
        let mut answer = self.committed(statements).await;
        for _ in 0..REPEATS {
            // It was rolled back, so it can't be carried out twice.
            let again = |failed: &Failed| matches!(failed.cause, Cause::Conflict | Cause::Defaults);
            if !answer.as_ref().is_err_and(again) {
                break;
            }
            answer = self.committed(statements).await;
        }
        self.noted(answer)
    }

    /// Returns the time limit of a statement.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Runs `plan` in a transaction under a lock with this number, without the time limits that the database or the role may set.
    pub(super) async fn locked_transaction<F>(&self, lock: i64, limit: Duration, plan: F) -> Result<(), Error>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<(), Error>,
    {
        let mut connection = self.connection().await?;
        let work = async {
            let transaction = connection.get_mut()?.build_transaction();
            let transaction = transaction.isolation_level(IsolationLevel::ReadCommitted).start().await;
            let transaction = transaction.map_err(|e| error::of_query(&e))?;
            transaction.query_typed(NO_TIMEOUTS, &[]).await.map_err(|e| error::of_query(&e))?;
            // A lock of the transaction, since a lock of the session would remain in PgBouncer.
            let lock: Parameter<'_> = (&lock, Type::INT8);
            transaction
                .query_typed("SELECT pg_advisory_xact_lock($1)", &[lock])
                .await
                .map_err(|e| error::of_query(&e))?;
            // While this waits for a table's lock, all later statements on that table wait behind it, including sends.
            transaction.query_typed(SHORT_LOCK_WAIT, &[]).await.map_err(|e| error::of_query(&e))?;
            plan(&transaction).await?;
            transaction.commit().await.map_err(|e| error::of_query(&e))
        };
        let done = timeout(limit, work).await;
        match done {
            Ok(result) => {
                connection.give_back();
                result
            }
            Err(_) => Err(self.late(limit)),
        }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        self.connections.manager()
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Returns the state of the pool.
    pub fn status(&self) -> PoolStatus {
        let status = self.connections.status();
        PoolStatus {
            name: self.name,
            size_max: status.max_size,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Runs one statement that only reads.
    async fn read(&self, statement: Statement<'_>) -> Result<Vec<Row>, Failed> {
        let connection = self.connection().await?;
        let session = connection.get()?;
        let ask = async {
            if !session.is_settled() && self.server.reads_need_transaction() {
                return self.commit_on(session, &[statement]).await.map(of_one);
            }
            Ready::new(session, statement).await?.rows(session).await
        };
        let answer = timeout(self.statement_timeout, ask).await;
        self.finish(connection, answer.ok())
    }

    /// Runs statements as one transaction.
    async fn committed(&self, statements: &[Statement<'_>]) -> Result<Vec<Vec<Row>>, Failed> {
        let connection = self.connection().await?;
        let answer = timeout(self.statement_timeout, self.commit_on(connection.get()?, statements)).await;
        self.finish(connection, answer.ok())
    }

    /// Sends all statements at once, in this order, so that it is one round trip.
    async fn commit_on(
        &self,
        session: &Session,
        statements: &[Statement<'_>],
    ) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
        if let ([statement], true) = (statements, session.is_settled()) {
            // The server makes it a transaction of its own, and answers when it is committed.
            return Ok(vec![Ready::new(session, *statement).await?.rows(session).await?]);
        }
        let mut ready = Vec::with_capacity(statements.len());
        for statement in statements {
            ready.push(Ready::new(session, *statement).await?);
        }
        let begin = if session.is_settled() { "BEGIN" } else { &*self.begin };
        let (begun, answers, committed) = tokio::join!(
            biased;
            session.batch_execute(begin),
            join_all(ready.iter().map(|statement| statement.rows(session))),
            // This rolls back if a statement failed.
            session.batch_execute("COMMIT"),
        );
        begun?;
        let rows = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        committed?;
        Ok(rows)
    }

    fn finish<T>(
        &self,
        connection: Connection,
        answer: Option<Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failed> {
        let Some(answer) = answer else {
            return Err(Failed::of_server(self.late(self.statement_timeout)));
        };
        if answer.as_ref().is_err_and(error::spoils_the_connection) {
            connection.discard();
        } else {
            connection.give_back();
        }
        answer.map_err(|error| Failed::of_query(&error))
    }

    async fn connection(&self) -> Result<Connection, Error> {
        Connection::take(&self.connections, self.tls.as_ref(), self.statement_timeout).await
    }

    fn noted<T>(&self, answer: Result<T, Failed>) -> Result<T, Failed> {
        if let Err(failed) = &answer {
            outage::note(self, &failed.error);
        }
        answer
    }

    fn late(&self, limit: Duration) -> Error {
        Error::Unavailable(format!("no answer within {limit:?}"))
    }

    /// Starts a task that closes idle connections, as long as the pool exists.
    fn close_idle_connections(&self, idle_timeout: Duration) {
        // Without a runtime there are no connections either.
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = self.connections.weak();
        runtime.spawn(async move {
            let mut tick = interval((idle_timeout / 2).max(Duration::from_millis(100)));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(pool) = pool.upgrade() else { return };
                pool.retain(|_, metrics| metrics.last_used() < idle_timeout);
            }
        });
    }
}

impl outage::Try for Pool {
    fn outage(&self) -> &Outage {
        &self.server.outage
    }

    fn name(&self) -> &'static str {
        self.server.name
    }

    async fn ask(&self) -> Result<(), Error> {
        self.rows("SELECT 1", &[]).await.map(drop)
    }
}

/// A statement that is ready to be sent.
struct Ready<'a> {
    statement: Statement<'a>,
    /// The prepared statement, if those are used.
    prepared: Option<tokio_postgres::Statement>,
}

impl<'a> Ready<'a> {
    async fn new(session: &Session, statement: Statement<'a>) -> Result<Self, tokio_postgres::Error> {
        let prepared = session.prepared(statement).await?;
        Ok(Self { statement, prepared })
    }

    async fn rows(&self, session: &Session) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Statement { sql, parameters } = self.statement;
        match &self.prepared {
            Some(prepared) => {
                let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
                session.query(prepared, &values).await
            }
            None => session.query_typed(sql, parameters).await,
        }
    }
}

/// Returns the rows of the only statement.
fn of_one(answers: Vec<Vec<Row>>) -> Vec<Row> {
    answers.into_iter().next().unwrap_or_default()
}

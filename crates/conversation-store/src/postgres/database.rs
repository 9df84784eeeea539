//! A pool of connections to one server, and one way to ask it something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, NoTls, Row};

use super::PostgresConfig;
use super::dsn::Dsn;
use super::error::{self, Cause, Failed};
use super::hosts::Hosts;
use super::outage::Doubt;
use super::tls_stream::Tls;
use crate::{Error, PoolStatus};

/// A parameter and its type; the type is sent along, so that no statement needs to be prepared to learn it.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Connections to one server.
#[derive(Clone)]
pub(super) struct Database {
    /// The pool's name.
    name: &'static str,
    /// The server's: `primary` or `replica`.
    server: &'static str,
    pool: Pool,
    tls: Option<Tls>,
    statement_timeout: Duration,
    prepared_statements: bool,
    /// Begins a transaction whose settings are ours.
    begin: Arc<str>,
    /// Whether reads need such a transaction, too, because of this database's defaults.
    reads_need_transaction: Arc<AtomicBool>,
    /// Whether the log has been told of a doubtful setting of the server.
    has_warned: Arc<AtomicBool>,
    pub(super) doubt: Doubt,
}

/// The share of a statement's time that it waits for one lock: what is left is for those of its rows that nobody holds.
const LOCK_SHARE: u128 = 4;
/// Limits how long a migration waits for a table's lock. It is tried again then.
const SHORT_LOCK_WAIT: &str = "SELECT set_config('lock_timeout', '2s', true)";
/// Lifts the limits that a database or a role may set, for one transaction: a migration may take long.
const NO_TIMEOUTS: &str = "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
    ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')";
/// How often a write is repeated at once that was rolled back because of another transaction, or cancelled before its settings held.
const REPEATS: usize = 4;

/// Sets what a statement relies on, whatever the defaults of the database and of the role are: other isolation levels roll
/// transactions back that touch the same rows, and a short `statement_timeout` cancels what would have been done in time. Not
/// `default_transaction_read_only`: hosters set it when the disk is full, and operators to freeze a database.
fn begin(statement_timeout: Duration) -> String {
    let timeout_ms = statement_timeout.as_millis().clamp(1, i32::MAX as u128);
    let lock_timeout_ms = (timeout_ms / LOCK_SHARE).max(1);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {timeout_ms}; \
         SET LOCAL lock_timeout = {lock_timeout_ms}; SET LOCAL idle_in_transaction_session_timeout = 0"
    )
}

impl Database {
    /// Reads the URL and builds the pool; connects to nothing.
    pub(super) fn new(
        name: &'static str,
        url: &str,
        config: &PostgresConfig,
        size_max: usize,
    ) -> Result<Self, Error> {
        let mut dsn = Dsn::parse(url)?;
        // For each address of each host, and for all that belongs to a connection.
        let connect_timeout = dsn.config.get_connect_timeout().copied().unwrap_or(config.connect_timeout);
        dsn.config.connect_timeout(connect_timeout).keepalives_idle(Duration::from_secs(15));
        // A server that fell silent is noticed by the kernel as well, for connections that are not being waited for.
        dsn.config.tcp_user_timeout(config.statement_timeout.saturating_mul(2));
        let tls = dsn.tls(config.ca_file.as_deref())?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => {
                let hosts = Hosts::of(&dsn.config, tls.clone(), connect_timeout);
                Manager::from_connect(dsn.config, hosts, recycling)
            }
            None => {
                let hosts = Hosts::of(&dsn.config, NoTls, connect_timeout);
                Manager::from_connect(dsn.config, hosts, recycling)
            }
        };
        let pool = Pool::builder(manager)
            .max_size(size_max.max(1))
            .wait_timeout(Some(config.wait_timeout))
            // Whoever connects limits that by itself, for each host.
            .create_timeout(None)
            .recycle_timeout(Some(config.recycle_timeout))
            // The connection used last is used next, so that those not needed grow idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Address(error.to_string()))?;
        let (statement_timeout, prepared_statements) = (config.statement_timeout, config.prepared_statements);
        let doubt = Doubt::default();
        let begin = begin(statement_timeout).into();
        let reads_need_transaction = Arc::default();
        let database = Self {
            name,
            server: name,
            pool,
            tls,
            statement_timeout,
            prepared_statements,
            begin,
            reads_need_transaction,
            has_warned: Arc::default(),
            doubt,
        };
        database.close_idle_connections(config.idle_timeout);
        Ok(database)
    }

    /// Says that this is another pool for the same server: what one learns about the server both know, and it is logged once.
    pub(super) fn beside(mut self, other: &Self) -> Self {
        self.server = other.server;
        self.reads_need_transaction = other.reads_need_transaction.clone();
        self.has_warned = other.has_warned.clone();
        self.doubt = other.doubt.clone();
        self
    }

    /// One statement that only reads, in one round trip.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let in_transaction = self.reads_need_transaction.load(Ordering::Relaxed);
        let mut answer = self.round_trip(sql, parameters, in_transaction).await;
        let by_defaults = |failed: &Failed| matches!(failed.cause, Cause::Defaults | Cause::Lock);
        if !in_transaction && answer.as_ref().is_err_and(by_defaults) {
            self.reads_need_transaction.store(true, Ordering::Relaxed);
            answer = self.round_trip(sql, parameters, true).await;
        }
        self.noted(answer).map_err(Error::from)
    }

    /// One statement that writes, as a transaction of its own in one round trip.
    pub(super) async fn write(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failed> {
        let mut answer = self.round_trip(sql, parameters, true).await;
        for _ in 0..REPEATS {
            // It was rolled back, so that it can't be carried out twice.
            let again = |failed: &Failed| matches!(failed.cause, Cause::Conflict | Cause::Defaults);
            if !answer.as_ref().is_err_and(again) {
                break;
            }
            answer = self.round_trip(sql, parameters, true).await;
        }
        self.noted(answer)
    }

    fn noted(&self, answer: Result<Vec<Row>, Failed>) -> Result<Vec<Row>, Failed> {
        if let Err(failed) = &answer {
            self.doubt(&failed.error);
        }
        answer
    }

    /// Whether nothing has been said of a doubtful setting yet. The next call answers no.
    pub(super) fn is_first_warning(&self) -> bool {
        !self.has_warned.swap(true, Ordering::Relaxed)
    }

    /// How long a statement may take.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Statements without parameters or answer as one transaction, under a lock with this number, as far as `plan` says
    /// so when the lock is held.
    pub(super) async fn locked_transaction<F>(&self, lock: i64, limit: Duration, plan: F) -> Result<(), Error>
    where
        F: AsyncFnOnce(&deadpool_postgres::Transaction<'_>) -> Result<(), Error>,
    {
        let mut connection = Borrowed::of(self).await?;
        let work = async {
            let transaction = connection.get_mut()?.build_transaction();
            let transaction = transaction.isolation_level(IsolationLevel::ReadCommitted).start().await;
            let transaction = transaction.map_err(|e| error::of_query(&e))?;
            transaction.query_typed(NO_TIMEOUTS, &[]).await.map_err(|e| error::of_query(&e))?;
            // Held to the end of the transaction: a lock of the session would stay behind in PgBouncer.
            let lock: Parameter<'_> = (&lock, Type::INT8);
            transaction
                .query_typed("SELECT pg_advisory_xact_lock($1)", &[lock])
                .await
                .map_err(|e| error::of_query(&e))?;
            // Whatever waits for a table's lock has all later statements on that table wait behind it, sends among them.
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

    /// Which server this is: `primary` or `replica`.
    pub(super) fn server(&self) -> &'static str {
        self.server
    }

    /// What the pool looks like.
    pub(super) fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            name: self.name,
            size_max: status.max_size,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    async fn round_trip(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        in_transaction: bool,
    ) -> Result<Vec<Row>, Failed> {
        let connection = Borrowed::of(self).await?;
        let ask = self.ask(connection.get()?, sql, parameters, in_transaction);
        let answer = timeout(self.statement_timeout, ask).await;
        self.finish(connection, answer.ok())
    }

    async fn ask(
        &self,
        connection: &Object,
        sql: &str,
        parameters: &[Parameter<'_>],
        in_transaction: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if !self.prepared_statements {
            return self.framed(connection, connection.query_typed(sql, parameters), in_transaction).await;
        }
        let types: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        let statement = connection.prepare_typed_cached(sql, &types).await?;
        self.framed(connection, connection.query(&statement, &values), in_transaction).await
    }

    /// The answer to a statement, in a transaction of its own if that is wanted. All is sent at once, in this order, so that it
    /// still is one round trip.
    async fn framed(
        &self,
        connection: &Object,
        statement: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>,
        in_transaction: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if !in_transaction {
            return statement.await;
        }
        let (begun, answer, committed) = tokio::join!(
            biased;
            connection.batch_execute(&self.begin),
            statement,
            // Rolls back what has failed.
            connection.batch_execute("COMMIT"),
        );
        begun?;
        let rows = answer?;
        committed?;
        Ok(rows)
    }

    fn finish(
        &self,
        connection: Borrowed<'_>,
        answer: Option<Result<Vec<Row>, tokio_postgres::Error>>,
    ) -> Result<Vec<Row>, Failed> {
        let Some(answer) = answer else {
            return Err(Failed::of_server(self.late(self.statement_timeout)));
        };
        if answer.as_ref().is_err_and(error::is_of_a_read_only_server) {
            connection.discard();
        } else {
            connection.give_back();
        }
        answer.map_err(|error| Failed::of_query(&error))
    }

    fn late(&self, limit: Duration) -> Error {
        Error::Unavailable(format!("no answer within {limit:?}"))
    }

    /// Closes connections that have not been used for a while, as long as the pool lives.
    fn close_idle_connections(&self, idle_timeout: Duration) {
        // Without a runtime nobody can connect either.
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = self.pool.weak();
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

/// A connection in use. Dropped before it was given back (the answer came too late, or the caller went away), it is not
/// used again, since an answer is still to come on it, and the server is told to stop.
struct Borrowed<'a> {
    database: &'a Database,
    connection: Option<Object>,
}

impl<'a> Borrowed<'a> {
    async fn of(database: &'a Database) -> Result<Self, Error> {
        let connection = database.pool.get().await.map_err(|error| error::of_pool(&error))?;
        Ok(Self { database, connection: Some(connection) })
    }

    fn get(&self) -> Result<&Object, Error> {
        self.connection.as_ref().ok_or_else(gone)
    }

    fn get_mut(&mut self) -> Result<&mut Object, Error> {
        self.connection.as_mut().ok_or_else(gone)
    }

    fn give_back(mut self) {
        self.connection = None;
    }

    /// Nothing is to come on it any more, and nothing good would come of it.
    fn discard(mut self) {
        self.connection.take().map(Object::take);
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let stop = connection.cancel_token();
        let connection = Object::take(connection);
        let Ok(runtime) = Handle::try_current() else { return };
        let (tls, limit) = (self.database.tls.clone(), self.database.statement_timeout);
        runtime.spawn(async move {
            // As good as it goes: the server may be out of reach, which is why the answer did not come.
            let _ = timeout(limit, async {
                match tls {
                    Some(tls) => stop.cancel_query(tls).await,
                    None => stop.cancel_query(NoTls).await,
                }
            })
            .await;
            // Only now: PgBouncer forgets whom to tell when the connection is closed.
            drop(connection);
        });
    }
}

fn gone() -> Error {
    Error::Unavailable("the connection was given back".into())
}

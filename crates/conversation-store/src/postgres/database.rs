//! A pool of connections to one server, and one way to ask it something.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresConfig;
use super::dsn::Dsn;
use super::error;
use super::outage::Doubt;
use crate::{Error, PoolStatus};

/// A parameter and its type; the type is sent along, so that no statement needs to be prepared to learn it.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Connections to one server.
#[derive(Clone)]
pub(super) struct Database {
    name: &'static str,
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
    statement_timeout: Duration,
    prepared_statements: bool,
    pub(super) doubt: Doubt,
}

impl Database {
    /// Reads the URL and builds the pool; connects to nothing.
    pub(super) fn new(name: &'static str, url: &str, config: &PostgresConfig) -> Result<Self, Error> {
        let mut dsn = Dsn::parse(url)?;
        dsn.config.connect_timeout(config.connect_timeout).keepalives_idle(Duration::from_secs(15));
        // A server that fell silent is noticed by the kernel as well, for connections that are not being waited for.
        dsn.config.tcp_user_timeout(config.statement_timeout.saturating_mul(2));
        let tls = dsn.tls(config.ca_file.as_deref())?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => Manager::from_config(dsn.config, tls.clone(), recycling),
            None => Manager::from_config(dsn.config, NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(config.pool_size_max.max(1))
            .wait_timeout(Some(config.wait_timeout))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.recycle_timeout))
            // The connection used last is used next, so that those not needed grow idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Address(error.to_string()))?;
        let (statement_timeout, prepared_statements) = (config.statement_timeout, config.prepared_statements);
        let doubt = Doubt::default();
        let database = Self { name, pool, tls, statement_timeout, prepared_statements, doubt };
        database.close_idle_connections(config.idle_timeout);
        Ok(database)
    }

    /// One statement, one round trip.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let answer = self.round_trip(sql, parameters).await;
        if let Err(error) = &answer {
            self.doubt(error);
        }
        answer
    }

    /// Statements without parameters or answer as one transaction, under a lock with this number, as far as `plan` says
    /// so when the lock is held.
    pub(super) async fn locked_transaction<F>(&self, lock: i64, limit: Duration, plan: F) -> Result<(), Error>
    where
        F: AsyncFnOnce(&deadpool_postgres::Transaction<'_>) -> Result<(), Error>,
    {
        let mut connection = Borrowed::of(self).await?;
        let work = async {
            let transaction = connection.get_mut()?.transaction().await.map_err(|e| error::of_query(&e))?;
            // Held to the end of the transaction: a lock of the session would stay behind in PgBouncer.
            let lock: Parameter<'_> = (&lock, Type::INT8);
            transaction
                .query_typed("SELECT pg_advisory_xact_lock($1)", &[lock])
                .await
                .map_err(|e| error::of_query(&e))?;
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
    pub(super) fn name(&self) -> &'static str {
        self.name
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

    async fn round_trip(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        let connection = Borrowed::of(self).await?;
        let answer = timeout(self.statement_timeout, self.ask(connection.get()?, sql, parameters)).await;
        self.finish(connection, answer.ok())
    }

    async fn ask(
        &self,
        connection: &Object,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if !self.prepared_statements {
            return connection.query_typed(sql, parameters).await;
        }
        let types: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
        let statement = connection.prepare_typed_cached(sql, &types).await?;
        connection.query(&statement, &values).await
    }

    fn finish(
        &self,
        connection: Borrowed<'_>,
        answer: Option<Result<Vec<Row>, tokio_postgres::Error>>,
    ) -> Result<Vec<Row>, Error> {
        let Some(answer) = answer else {
            return Err(self.late(self.statement_timeout));
        };
        if answer.as_ref().is_err_and(error::is_of_a_read_only_server) {
            connection.discard();
        } else {
            connection.give_back();
        }
        answer.map_err(|error| error::of_query(&error))
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

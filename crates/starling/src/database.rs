//! The database: its address, opening it, and waiting for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::sqlite::SqliteConfig;
use starling_conversation_store::{ConversationStore, connect};
use starling_database::{DatabaseAddress, Error};
use starling_settings::BadConfig;

use crate::config::Config;
use crate::failure::Failure;

/// Most reads for clients that are under way at once: further ones do not make the database faster.
const READS_AT_ONCE_MAX: usize = 16;

/// Where the log is, and what is done with it at the start.
pub struct Database {
    url: String,
    /// Set when it is PostgreSQL.
    postgres: Option<PostgresConfig>,
    migrate: bool,
    start_timeout: Duration,
}

impl Database {
    /// Reads the settings of the database alone: `starling migrate` needs no key of tokens.
    pub fn read(config: &Config) -> Result<Database, BadConfig> {
        let settings = &config.database;
        Ok(Database {
            url: settings.url.expose().to_owned(),
            postgres: postgres(config)?,
            migrate: settings.migrate,
            start_timeout: settings.start_timeout,
        })
    }

    /// The same database, whose schema is brought up to date when it answers.
    #[must_use]
    pub fn migrating(self) -> Database {
        Database { migrate: true, ..self }
    }

    /// Opens it: connects to nothing yet, but opens a database file.
    pub async fn open(&self) -> Result<Arc<dyn ConversationStore>, Failure> {
        let opened = match &self.postgres {
            Some(config) => PostgresStore::connect(config.clone()).map(|store| Arc::new(store) as Arc<_>),
            None => connect(&self.url).await,
        };
        opened.map_err(|error| match error {
            Error::Address(_) => BadConfig(error.to_string()).into(),
            error => Failure::about("database_url", error),
        })
    }

    /// Waits until the database answers, and brings its schema up to date.
    pub async fn wait_until_ready(&self, store: &dyn ConversationStore) -> Result<(), Failure> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let ready = match store.check().await {
                Ok(()) if self.migrate => store.migrate().await.map(|()| true),
                Ok(()) => store.is_migrated().await,
                Err(error) => Err(error),
            };
            match ready {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let why = "database_url: the schema is not up to date; run `starling migrate`";
                    return Err(anyhow!(why).into());
                }
                Err(error) if error.is_transient() && began.elapsed() < self.start_timeout => {
                    tracing::warn!(%error, "waiting for the database");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) if error.is_transient() => {
                    let waited = self.start_timeout.as_secs();
                    let message = format!("{error} (after {waited} s; start_timeout_seconds)");
                    return Err(Failure::about("database_url", message));
                }
                Err(error) => return Err(Failure::about("database_url", error)),
            }
        }
    }

    /// Reads for clients that may be under way at once: as many as SQLite has readers, or a part of the connections to PostgreSQL, so
    /// that the node's own reads find some, too.
    pub fn reads_at_once(&self) -> usize {
        match &self.postgres {
            None => SqliteConfig::default().readers,
            Some(config) => (config.pool_size_max / 3).clamp(1, READS_AT_ONCE_MAX),
        }
    }
}

/// Reads of the log for lagging sockets that may be under way at once: never more than half of the connections, so that sends find
/// some.
pub fn log_reads_at_once(config: &Config) -> usize {
    (config.database.pool_size / 2).clamp(1, READS_AT_ONCE_MAX)
}

/// Where the database is.
pub fn address(config: &Config) -> Result<DatabaseAddress, BadConfig> {
    config.database.url.expose().parse().map_err(|error: Error| BadConfig(error.to_string()))
}

/// The settings of PostgreSQL, if the log is there.
fn postgres(config: &Config) -> Result<Option<PostgresConfig>, BadConfig> {
    let settings = &config.database;
    match address(config)? {
        DatabaseAddress::Postgres(url) => {
            check("database_url", &url)?;
            let mut postgres = PostgresConfig::new(url);
            postgres.read_url = settings.read_url.as_ref().map(|url| url.expose().to_owned());
            postgres.pool_size_max = settings.pool_size;
            postgres.appends_at_once = config.hub.append_lanes;
            postgres.pool.prepared_statements = settings.prepared_statements;
            postgres.read_url.iter().try_for_each(|url| check("database_read_url", url))?;
            Ok(Some(postgres))
        }
        DatabaseAddress::Sqlite(_) => {
            if config.redis.url.is_some() {
                let why = "several nodes can't share a SQLite file; with redis_url use postgres://…";
                return Err(BadConfig(format!("database_url: {why}")));
            }
            Ok(None)
        }
    }
}

fn check(key: &str, url: &str) -> Result<(), BadConfig> {
    PostgresConfig::new(url).check().map_err(|error| match error {
        Error::Address(why) => BadConfig(format!("{key}: {why}")),
        error => BadConfig(format!("{key}: {error}")),
    })
}

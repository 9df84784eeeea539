//! The database: its address, opening it, and waiting for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::sqlite::{SqliteConfig, SqliteStore};
use starling_conversation_store::{ConversationStore, SCHEMA};
use starling_database::{DatabaseAddress, Error, NewerSchema, Schema, SchemaStatus};
use starling_jobs::JobStore;
use starling_jobs::postgres::PostgresJobs;
use starling_jobs::sqlite::SqliteJobs;
use starling_settings::BadConfig;
use starling_webhooks::WebhookStore;
use starling_webhooks::postgres::PostgresWebhooks;
use starling_webhooks::sqlite::SqliteWebhooks;

use crate::config::Config;
use crate::failure::Failure;

/// Most reads for clients that are under way at once: further ones do not make the database faster.
const READS_AT_ONCE_MAX: usize = 16;

/// What is kept in the database. The stores share its connections.
#[derive(Clone)]
pub struct Stores {
    /// The log.
    pub conversations: Arc<dyn ConversationStore>,
    /// Durable jobs.
    pub jobs: Arc<dyn JobStore>,
    /// Webhooks and hooks.
    pub webhooks: Arc<dyn WebhookStore>,
}

impl Stores {
    /// Checks that the database can be used, and returns how each schema compares with the one that this program knows.
    pub async fn check_schemas(&self) -> Result<[SchemaStatus; 3], Error> {
        self.conversations.check().await?;
        Ok([
            self.conversations.schema_status().await?,
            self.jobs.schema_status().await?,
            self.webhooks.schema_status().await?,
        ])
    }
}

/// Where the database is, and what is done with it at the start.
pub struct Database {
    server: Server,
    /// The migrations of the log.
    log_schema: &'static Schema,
    migrate: bool,
    start_timeout: Duration,
}

/// What the database is.
enum Server {
    Postgres(Box<PostgresConfig>),
    Sqlite(PathBuf),
}

impl Database {
    /// Reads the settings of the database alone: `starling migrate` needs no key of tokens.
    pub fn read(config: &Config) -> Result<Database, BadConfig> {
        let settings = &config.database;
        Ok(Database {
            server: match address(config)? {
                DatabaseAddress::Postgres(url) => Server::Postgres(Box::new(postgres(config, url)?)),
                DatabaseAddress::Sqlite(path) => Server::Sqlite(sqlite(config, path)?),
            },
            log_schema: &SCHEMA,
            migrate: settings.migrate,
            start_timeout: settings.start_timeout,
        })
    }

    /// The same database, whose schema is brought up to date when it answers.
    #[must_use]
    pub fn migrating(self) -> Database {
        Database { migrate: true, ..self }
    }

    /// The same database, for a program that knows these migrations of the log.
    #[must_use]
    pub fn with_log_schema(self, log_schema: &'static Schema) -> Database {
        Database { log_schema, ..self }
    }

    /// Opens it: connects to nothing yet, but opens a database file.
    pub async fn open(&self) -> Result<Stores, Failure> {
        let opened = match &self.server {
            Server::Postgres(config) => PostgresStore::connect((**config).clone()).map(|store| Stores {
                jobs: Arc::new(PostgresJobs::new(store.database())),
                webhooks: Arc::new(PostgresWebhooks::new(store.database())),
                conversations: Arc::new(store.with_schema(self.log_schema)),
            }),
            Server::Sqlite(path) => open_file(path.clone()).await.map(|store| Stores {
                webhooks: Arc::new(SqliteWebhooks::new(store.database())),
                jobs: Arc::new(SqliteJobs::new(store.database())),
                conversations: Arc::new(store.with_schema(self.log_schema)),
            }),
        };
        opened.map_err(|error| match error {
            Error::Address(_) => BadConfig(error.to_string()).into(),
            error => Failure::about("database_url", error),
        })
    }

    /// Waits until the database answers, and brings its schema up to date. Returns the schemas that are newer than this program.
    pub async fn wait_until_ready(&self, stores: &Stores) -> Result<Vec<NewerSchema>, Failure> {
        let Stores { conversations, jobs, webhooks } = stores;
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let prepare = async {
                // Nothing is migrated if one of the schemas is too new.
                let mut statuses = stores.check_schemas().await?;
                if self.migrate && statuses.contains(&SchemaStatus::Behind) {
                    conversations.migrate().await?;
                    jobs.migrate().await?;
                    webhooks.migrate().await?;
                    statuses = stores.check_schemas().await?;
                }
                Ok::<_, Error>(statuses)
            };
            match prepare.await {
                Ok(statuses) if statuses.contains(&SchemaStatus::Behind) => {
                    let why = "database_url: the schema is not up to date; run `starling migrate`";
                    return Err(anyhow!(why).into());
                }
                Ok(statuses) => return Ok(statuses.iter().filter_map(SchemaStatus::newer).collect()),
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
        match &self.server {
            Server::Sqlite(_) => SqliteConfig::default().readers,
            Server::Postgres(config) => (config.pool_size_max / 3).clamp(1, READS_AT_ONCE_MAX),
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

/// The settings of PostgreSQL.
fn postgres(config: &Config, url: String) -> Result<PostgresConfig, BadConfig> {
    let settings = &config.database;
    check("database_url", &url)?;
    let mut postgres = PostgresConfig::new(url);
    postgres.read_url = settings.read_url.as_ref().map(|url| url.expose().to_owned());
    postgres.pool_size_max = settings.pool_size;
    postgres.appends_at_once = config.hub.append_lanes;
    postgres.pool.prepared_statements = settings.prepared_statements;
    postgres.read_url.iter().try_for_each(|url| check("database_read_url", url))?;
    Ok(postgres)
}

/// The SQLite file, if a node may use it.
fn sqlite(config: &Config, path: PathBuf) -> Result<PathBuf, BadConfig> {
    if config.redis.url.is_some() {
        let why = "several nodes can't share a SQLite file; with redis_url use postgres://…";
        return Err(BadConfig(format!("database_url: {why}")));
    }
    Ok(path)
}

/// Opens a SQLite file on a thread that may wait for the disk.
async fn open_file(path: PathBuf) -> Result<SqliteStore, Error> {
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path, SqliteConfig::default()));
    opened.await.map_err(|error| Error::Unavailable(error.to_string()))?
}

fn check(key: &str, url: &str) -> Result<(), BadConfig> {
    PostgresConfig::new(url).check().map_err(|error| match error {
        Error::Address(why) => BadConfig(format!("{key}: {why}")),
        error => BadConfig(format!("{key}: {error}")),
    })
}

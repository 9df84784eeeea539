//! Where a case runs: an empty database, and as many stores over it as the case asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::sqlite::{SqliteConfig, SqliteStore};
use starling_conversation_store::{
    Append, AppendError, Appended, ConversationId, ConversationStore, NewConversation,
};
use starling_database::postgres::PoolConfig;
use starling_testkit::Folder;
use starling_testkit::postgres::{PgBouncer, Postgres};
use tokio::sync::Mutex;

pub type Store = Arc<dyn ConversationStore>;
pub type Answers = Vec<Result<Appended, AppendError>>;

/// In a folder that is not there yet.
const SQLITE_FILE: &str = "new/folder/starling.db";
/// How long anything may take here: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database of the case's own.
pub struct Place {
    engine: Engine,
    /// SQLite's one handle, since the file can be opened once.
    only: Mutex<Option<Store>>,
}

enum Engine {
    /// With the database's name, and what stands in between.
    Postgres {
        url: String,
        name: String,
        _bouncer: Option<Box<PgBouncer>>,
    },
    Sqlite(Folder),
}

impl Place {
    pub async fn postgres() -> Result<Self> {
        let name = fresh_name();
        let url = Postgres::shared().await?.create_database(&name).await?;
        Self::migrated(Engine::Postgres { url, name, _bouncer: None }).await
    }

    pub async fn pgbouncer() -> Result<Self> {
        let (postgres, name) = (Postgres::shared().await?, fresh_name());
        postgres.create_database(&name).await?;
        let bouncer = PgBouncer::start(postgres).await?;
        let url = bouncer.url_of(&name);
        Self::migrated(Engine::Postgres { url, name, _bouncer: Some(Box::new(bouncer)) }).await
    }

    pub async fn sqlite() -> Result<Self> {
        Self::migrated(Engine::Sqlite(Folder::new("conversation-store")?)).await
    }

    async fn migrated(engine: Engine) -> Result<Self> {
        let place = Self { engine, only: Mutex::default() };
        place.store().await?.migrate().await?;
        Ok(place)
    }

    /// Whether only one node at a time can have the database.
    pub fn is_for_one_node(&self) -> bool {
        matches!(self.engine, Engine::Sqlite(_))
    }

    /// A store over the database: another one with its own pool each time, but for SQLite always the same.
    pub async fn store(&self) -> Result<Store> {
        match &self.engine {
            Engine::Postgres { url, .. } => {
                let pool = PoolConfig {
                    connect_timeout: PATIENCE,
                    wait_timeout: PATIENCE,
                    statement_timeout: PATIENCE,
                    ..PoolConfig::default()
                };
                let config = PostgresConfig { pool_size_max: 10, pool, ..PostgresConfig::new(url) };
                Ok(Arc::new(PostgresStore::connect(config)?))
            }
            Engine::Sqlite(folder) => {
                let mut only = self.only.lock().await;
                if let Some(store) = &*only {
                    return Ok(Arc::clone(store));
                }
                let config = SqliteConfig { call_timeout: PATIENCE, ..SqliteConfig::default() };
                let store: Store = Arc::new(SqliteStore::open(folder.join(SQLITE_FILE), config)?);
                *only = Some(Arc::clone(&store));
                Ok(store)
            }
        }
    }

    /// Lets go of what the place itself holds open, so that the next store is a new one.
    pub async fn close(&self) {
        *self.only.lock().await = None;
    }

    /// Changes the database behind the store's back.
    pub async fn run_sql(&self, sql: &str) -> Result<()> {
        self.run_sql_of(sql, sql).await
    }

    /// Changes the database behind the store's back, in the words of its engine.
    pub async fn run_sql_of(&self, postgres: &str, sqlite: &str) -> Result<()> {
        match &self.engine {
            Engine::Postgres { name, .. } => {
                Postgres::shared().await?.psql_in(name, postgres).await?;
            }
            Engine::Sqlite(folder) => {
                rusqlite::Connection::open(folder.join(SQLITE_FILE))?.execute_batch(sqlite)?;
            }
        }
        Ok(())
    }
}

fn fresh_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("case_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A conversation of tenant `t` with `owner` as its only member.
pub async fn conversation(store: &Store, name: &str) -> Result<ConversationId> {
    Ok(store.create(&new("t", name, "owner")).await?.id)
}

pub fn new(tenant: &str, name: &str, owner: &str) -> NewConversation {
    NewConversation {
        tenant: tenant.into(),
        conversation: name.into(),
        owner: owner.into(),
        title: None,
        metadata: None,
        members: Vec::new(),
    }
}

/// A message of `owner` whose content tells its key.
pub fn message(conversation: ConversationId, key: &str) -> Append {
    Append::of_user(uuid::Uuid::now_v7(), conversation, "owner", key, format!("content of {key}"))
}

/// The id of a conversation that does not exist.
pub fn unknown(id: ConversationId) -> ConversationId {
    ConversationId::new(id.get() + 1_000)
}

/// Appends messages with these keys, one batch.
pub async fn append(store: &Store, conversation: ConversationId, keys: &[&str]) -> Result<Vec<Appended>> {
    let batch: Vec<_> = keys.iter().map(|key| message(conversation, key)).collect();
    Ok(store.append(&batch).await?.into_iter().collect::<Result<Vec<_>, _>>()?)
}

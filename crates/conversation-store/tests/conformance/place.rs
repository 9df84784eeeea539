//! Where a case runs: an empty database, and as many stores over it as the case asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use starling_conversation_store::{
    Append, AppendError, Appended, ConversationId, ConversationStore, NewConversation, Role, connect,
};
use starling_testkit::Folder;
use starling_testkit::postgres::{PgBouncer, Postgres};
use tokio::sync::{Mutex, OnceCell};

pub type Store = Arc<dyn ConversationStore>;
pub type Answers = Vec<Result<Appended, AppendError>>;

/// A database of the case's own.
pub struct Place {
    url: String,
    engine: Engine,
    /// SQLite's one handle, since the file can be opened once.
    only: Mutex<Option<Store>>,
}

enum Engine {
    /// The name of the database.
    Postgres(String),
    Sqlite(Folder),
}

impl Place {
    pub async fn postgres() -> Result<Self> {
        let name = fresh_name();
        let url = Postgres::shared().await?.create_database(&name).await?;
        Self { url, engine: Engine::Postgres(name), only: Mutex::default() }.migrated().await
    }

    pub async fn pgbouncer() -> Result<Self> {
        static SHARED: OnceCell<PgBouncer> = OnceCell::const_new();
        let postgres = Postgres::shared().await?;
        let bouncer = SHARED.get_or_try_init(|| PgBouncer::start(postgres)).await?;
        let name = fresh_name();
        postgres.create_database(&name).await?;
        let url = bouncer.url_of(&name);
        Self { url, engine: Engine::Postgres(name), only: Mutex::default() }.migrated().await
    }

    pub async fn sqlite() -> Result<Self> {
        let folder = Folder::new("conversation-store")?;
        let url = format!("sqlite://{}", folder.join("new/folder/starling.db").display());
        Self { url, engine: Engine::Sqlite(folder), only: Mutex::default() }.migrated().await
    }

    async fn migrated(self) -> Result<Self> {
        self.store().await?.migrate().await?;
        Ok(self)
    }

    /// A store over the database: another one with its own pool each time, but for SQLite always the same.
    pub async fn store(&self) -> Result<Store> {
        if matches!(self.engine, Engine::Postgres(_)) {
            return Ok(connect(&self.url).await?);
        }
        let mut only = self.only.lock().await;
        if only.is_none() {
            *only = Some(connect(&self.url).await?);
        }
        only.clone().ok_or_else(|| anyhow::anyhow!("just opened"))
    }

    /// Lets go of what the place itself holds open, so that the next store is a new one.
    pub async fn close(&self) {
        *self.only.lock().await = None;
    }

    /// Changes the database behind the store's back, while no store is open.
    pub async fn run_sql(&self, sql: &str) -> Result<()> {
        match &self.engine {
            Engine::Postgres(name) => {
                Postgres::shared().await?.psql_in(name, sql).await?;
            }
            Engine::Sqlite(folder) => {
                rusqlite::Connection::open(folder.join("new/folder/starling.db"))?.execute_batch(sql)?;
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
    Append {
        conversation,
        id: uuid::Uuid::now_v7(),
        sender: "owner".into(),
        key: key.into(),
        role: Role::User,
        content: format!("content of {key}").into(),
        metadata: None,
    }
}

/// Appends messages with these keys, one batch.
pub async fn append(store: &Store, conversation: ConversationId, keys: &[&str]) -> Result<Vec<Appended>> {
    let batch: Vec<_> = keys.iter().map(|key| message(conversation, key)).collect();
    Ok(store.append(&batch).await?.into_iter().collect::<Result<Vec<_>, _>>()?)
}

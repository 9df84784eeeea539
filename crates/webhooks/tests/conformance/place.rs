//! Where a case runs: an empty database with a store of webhooks over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use starling_database::postgres::{Pool, PoolConfig};
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_testkit::Folder;
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_webhooks::postgres::PostgresWebhooks;
use starling_webhooks::sqlite::SqliteWebhooks;
use starling_webhooks::{
    AttemptEnd, Endpoint, EventId, EventType, Events, NewEvent, NewWebhook, Noted, Secret, Webhook,
    WebhookId, WebhookStore,
};
use starling_wire::protocol::Timestamp;
use tokio_postgres::NoTls;

/// How long a call may take here: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database of the case's own.
pub struct Place {
    store: Arc<dyn WebhookStore>,
    database: Database,
    _bouncer: Option<Box<PgBouncer>>,
    _folder: Option<Folder>,
}

enum Database {
    /// The address of the server itself.
    Postgres(String),
    Sqlite(Arc<SqliteDatabase>),
}

impl Place {
    pub async fn postgres() -> Result<Self> {
        let url = Postgres::shared().await?.create_database(&fresh_name()).await?;
        Self::over(&url.clone(), url, None).await
    }

    pub async fn pgbouncer() -> Result<Self> {
        let (postgres, name) = (Postgres::shared().await?, fresh_name());
        let server = postgres.create_database(&name).await?;
        let bouncer = PgBouncer::start(postgres).await?;
        Self::over(&bouncer.url_of(&name), server, Some(Box::new(bouncer))).await
    }

    async fn over(url: &str, server: String, bouncer: Option<Box<PgBouncer>>) -> Result<Self> {
        let config = PoolConfig {
            connect_timeout: PATIENCE,
            wait_timeout: PATIENCE,
            statement_timeout: PATIENCE,
            ..PoolConfig::default()
        };
        let store = Arc::new(PostgresWebhooks::new(Pool::new("primary", url, &config, 8)?));
        store.migrate().await?;
        Ok(Self { store, database: Database::Postgres(server), _bouncer: bouncer, _folder: None })
    }

    pub async fn sqlite() -> Result<Self> {
        let folder = Folder::new("webhooks")?;
        let config = SqliteConfig { call_timeout: PATIENCE, ..SqliteConfig::default() };
        let database = Arc::new(SqliteDatabase::open(&folder.join("starling.db"), config)?);
        let store = Arc::new(SqliteWebhooks::new(Arc::clone(&database)));
        store.migrate().await?;
        Ok(Self { store, database: Database::Sqlite(database), _bouncer: None, _folder: Some(folder) })
    }

    pub fn store(&self) -> Arc<dyn WebhookStore> {
        Arc::clone(&self.store)
    }

    /// Runs a statement of the database's own, for what the store does not offer. Returns the first column of the first row.
    pub async fn run(&self, postgres: &str, sqlite: &str) -> Result<i64> {
        match &self.database {
            Database::Postgres(server) => {
                let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
                // It ends with the client.
                tokio::spawn(connection);
                Ok(client.query_one(postgres, &[]).await?.try_get(0)?)
            }
            Database::Sqlite(database) => {
                let sqlite = sqlite.to_owned();
                let first = database
                    .write(move |connection| Ok(connection.query_row(&sqlite, [], |row| row.get(0))?));
                Ok(first.await?)
            }
        }
    }

    /// Moves the end of all replaced secrets into the past.
    pub async fn end_replaced_secrets(&self) -> Result<()> {
        let postgres = "WITH ended AS (
            UPDATE webhook_secrets SET signs_until = clock_timestamp() WHERE signs_until IS NOT NULL RETURNING 1
        ) SELECT count(*) FROM ended";
        // Of several rows, the first is returned after all were changed.
        let sqlite =
            "UPDATE webhook_secrets SET signs_until_ms = 1 WHERE signs_until_ms IS NOT NULL RETURNING 1";
        self.run(postgres, sqlite).await.map(drop)
    }

    /// Notes the end of an attempt of tenant `t`, as whoever has the delivery at present.
    pub async fn note(
        &self,
        webhook: WebhookId,
        event: EventId,
        end: &AttemptEnd,
        pause_after: Duration,
    ) -> Result<Noted> {
        let claimed_until_ms = self.claimed_until_ms(webhook, event).await?;
        let end = AttemptEnd { claimed_until_ms, ..end.clone() };
        Ok(self.store.note_attempt(&"t".into(), webhook, event, &end, pause_after).await?)
    }

    /// Returns until when a delivery is claimed, or when it is due.
    pub async fn claimed_until_ms(&self, webhook: WebhookId, event: EventId) -> Result<i64> {
        let bytes = |id: String| format!("x'{}'", id.replace('-', ""));
        let postgres = format!(
            "SELECT (extract(epoch FROM due_at) * 1000)::bigint FROM webhook_deliveries
             WHERE webhook = '{webhook}' AND event = '{event}'"
        );
        let sqlite = format!(
            "SELECT due_at_ms FROM webhook_deliveries WHERE webhook = {} AND event = {}",
            bytes(webhook.to_string()),
            bytes(event.to_string())
        );
        self.run(&postgres, &sqlite).await
    }

    /// Adds a webhook of tenant `t`.
    pub async fn webhook(&self, events: Events) -> Result<Webhook> {
        self.added(&new_webhook("t", events)).await
    }

    /// Adds a webhook.
    pub async fn added(&self, webhook: &NewWebhook) -> Result<Webhook> {
        self.store.add(webhook, &Secret::generate(), 100).await?.context("too many")
    }
}

fn fresh_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("webhooks_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn new_webhook(tenant: &str, events: Events) -> NewWebhook {
    let endpoint = Endpoint::parse("https://example.com/hooks").expect("an endpoint");
    NewWebhook { id: WebhookId::new(), tenant: tenant.into(), endpoint, events, ordered: false }
}

/// An event of a type in tenant `t` and conversation `c`.
pub fn event(kind: EventType) -> Result<NewEvent> {
    event_of("t", kind, "c")
}

pub fn event_of(tenant: &str, kind: EventType, key: &str) -> Result<NewEvent> {
    let at = Timestamp(1_796_126_400_000);
    NewEvent::new(tenant.into(), kind, at, Some(key.to_owned()), "{\"text\":\"é\"}").context("an event")
}

pub fn message() -> Result<NewEvent> {
    event(EventType::MessageCreated)
}

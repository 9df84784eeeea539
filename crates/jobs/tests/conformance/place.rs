//! Where a case runs: an empty database with a store of jobs over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use starling_database::postgres::{Pool, PoolConfig};
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_jobs::postgres::PostgresJobs;
use starling_jobs::sqlite::SqliteJobs;
use starling_jobs::{
    BacklogClaim, Backlogs, Claimant, ClaimedJob, Ending, JobStore, Mark, NewJob, Outcome, WorkerId,
};
use starling_testkit::Folder;
use starling_testkit::postgres::{PgBouncer, Postgres};
use tokio_postgres::{Client, NoTls};

/// How long a call may take here: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database of the case's own.
pub struct Place {
    store: Arc<dyn JobStore>,
    /// The address that the store works through, if it is PostgreSQL.
    url: Option<String>,
    /// The address of the server itself, if it is PostgreSQL.
    server: Option<String>,
    bouncer: Option<Box<PgBouncer>>,
    _folder: Option<Folder>,
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
        let store = Arc::new(PostgresJobs::new(Pool::new("primary", url, &config, 8)?));
        store.migrate().await?;
        Ok(Self { store, url: Some(url.to_owned()), server: Some(server), bouncer, _folder: None })
    }

    pub async fn sqlite() -> Result<Self> {
        let folder = Folder::new("jobs")?;
        let config = SqliteConfig { call_timeout: PATIENCE, ..SqliteConfig::default() };
        let store =
            Arc::new(SqliteJobs::new(Arc::new(SqliteDatabase::open(&folder.join("starling.db"), config)?)));
        store.migrate().await?;
        Ok(Self { store, url: None, server: None, bouncer: None, _folder: Some(folder) })
    }

    pub fn store(&self) -> Arc<dyn JobStore> {
        Arc::clone(&self.store)
    }

    /// Returns a store over the same database that waits for a statement no longer than nodes do.
    pub fn impatient_store(&self) -> Result<Arc<dyn JobStore>> {
        let Some(url) = &self.url else { return Ok(self.store()) };
        Ok(Arc::new(PostgresJobs::new(Pool::new("primary", url, &PoolConfig::default(), 2)?)))
    }

    /// Returns a connection to the database, for what the store does not offer, if it is PostgreSQL.
    pub async fn session(&self) -> Result<Option<Client>> {
        let Some(server) = &self.server else { return Ok(None) };
        let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(Some(client))
    }

    /// Whether a pooler stands before the database.
    pub fn is_pooled(&self) -> bool {
        self.bouncer.is_some()
    }

    /// Lists a worker.
    pub async fn worker(&self) -> Result<WorkerId> {
        let worker = WorkerId::new();
        self.store.register(worker, "node").await?;
        Ok(worker)
    }

    /// Claims at most `limit` jobs from all backlogs that have some, whatever was claimed before.
    pub async fn claim(&self, worker: WorkerId, limit: u16) -> Result<Vec<ClaimedJob>> {
        let mut backlogs = Backlogs::default();
        backlogs.note(self.store.arrivals(Mark::default()).await?);
        let plan = backlogs.plan(backlogs.queues(), limit, 0, |_, _| true);
        Ok(self.store.claim(&by(worker, None), &plan).await?.jobs)
    }

    /// Claims one job, which must be there.
    pub async fn claim_one(&self, worker: WorkerId) -> Result<ClaimedJob> {
        self.claim(worker, 1).await?.pop().context("no job was ready")
    }
}

fn fresh_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("jobs_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A job of tenant `t` in queue `q` whose payload tells its number.
pub fn job(number: usize) -> NewJob {
    NewJob::new("t".into(), "q", "k", format!("{{\"number\":{number}}}"))
}

/// A worker that claims.
pub fn by(worker: WorkerId, lease: Option<Duration>) -> Claimant {
    Claimant { worker, name: "the worker".into(), lease }
}

/// An ending of a claimed job.
pub fn ending(job: &ClaimedJob, outcome: Outcome) -> Ending {
    Ending { job: job.id, generation: job.generation, outcome }
}

/// A claim of one backlog from its beginning.
pub fn from_the_start(job: &NewJob, limit: u16) -> BacklogClaim {
    let backlog = starling_jobs::BacklogName {
        queue: job.queue.clone(),
        tenant: job.tenant.clone(),
        priority: job.priority,
    };
    BacklogClaim { backlog, mark: Mark::default(), limit }
}

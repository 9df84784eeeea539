//! Starling's service of jobs as a node runs it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use parking_lot::Mutex;
use starling_database::postgres::{Pool, PoolConfig};
use starling_job_service::{
    Handler, Handlers, JobService, JobServiceParts, JobSettings, Report, Stop, WorkerSetup,
};
use starling_jobs::postgres::PostgresJobs;
use starling_jobs::{ClaimedJob, JobStore, NewJob};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Plan;
use crate::ledger::Ledger;

const QUEUE: &str = "starling.bench";
const KIND: &str = "bench";
/// How long a call may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Begins jobs in the ledger, which is all that is done.
struct Note(Arc<Ledger>);

#[async_trait]
impl Handler for Note {
    async fn run(&self, job: &ClaimedJob, _stop: Stop) -> Report {
        self.0.begin(&job.payload);
        Report::Done(None)
    }
}

/// Adds jobs, and does them while it works.
pub struct Worker {
    store: Arc<dyn JobStore>,
    ledger: Arc<Ledger>,
    at_once: u16,
    /// The service that adds jobs.
    service: Arc<JobService>,
    working: Mutex<Option<Working>>,
}

/// A service that does jobs, and its tasks.
struct Working {
    service: Arc<JobService>,
    tasks: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Connects, and creates the tables.
    pub async fn start(plan: &Plan, ledger: &Arc<Ledger>) -> Result<Self> {
        let store = store(&plan.url)?;
        store.migrate().await?;
        let (ledger, at_once, working) = (Arc::clone(ledger), plan.at_once, Mutex::default());
        let service = service(&store, None, at_once);
        Ok(Self { service, store, ledger, at_once, working })
    }

    /// Adds a job.
    pub async fn add(&self) -> Result<()> {
        let job = NewJob::new("default".into(), QUEUE, KIND, self.ledger.next());
        self.working().unwrap_or_else(|| Arc::clone(&self.service)).enqueue(job).await?;
        Ok(())
    }

    /// Begins to do jobs.
    pub fn work(&self) {
        let handlers = Handlers::default().with(QUEUE, KIND, Arc::new(Note(Arc::clone(&self.ledger))));
        let setup = WorkerSetup { node: "bench".into(), handlers };
        let service = service(&self.store, Some(setup), self.at_once);
        let tasks = vec![
            tokio::spawn(Arc::clone(&service).watch_forever()),
            tokio::spawn(Arc::clone(&service).keep_time_forever()),
            tokio::spawn(Arc::clone(&service).keep_counts_forever()),
            tokio::spawn(Arc::clone(&service).work()),
        ];
        *self.working.lock() = Some(Working { service, tasks });
    }

    /// Ends to do jobs.
    pub async fn pause(&self) {
        let Some(working) = self.working.lock().take() else { return };
        working.service.drain();
        working.service.work_ended().await;
        working.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Ends.
    pub async fn stop(&self) {
        self.pause().await;
    }

    fn working(&self) -> Option<Arc<JobService>> {
        self.working.lock().as_ref().map(|working| Arc::clone(&working.service))
    }
}

/// The store in this database, with as many connections as the other systems have.
pub fn store(url: &str) -> Result<Arc<dyn JobStore>> {
    let config = PoolConfig {
        connect_timeout: PATIENCE,
        wait_timeout: PATIENCE,
        statement_timeout: PATIENCE,
        ..PoolConfig::default()
    };
    Ok(Arc::new(PostgresJobs::new(Pool::new("primary", url, &config, 32)?)))
}

/// A service over it.
pub fn service(store: &Arc<dyn JobStore>, worker: Option<WorkerSetup>, at_once: u16) -> Arc<JobService> {
    JobService::new(JobServiceParts {
        store: Arc::clone(store),
        settings: JobSettings { at_once, ..JobSettings::default() },
        worker,
        runtime: Handle::current(),
    })
}

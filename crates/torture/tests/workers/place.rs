//! Servers and nodes for a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_database::postgres::{Pool, PoolConfig};
use starling_jobs::postgres::PostgresJobs;
use starling_jobs::{JobDetails, JobId, JobState, JobStore, NewJob};
use starling_testkit::http;
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::redis::Redis;
use starling_testkit::wait::{until, until_true};

/// Longer than anything takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A node of the program that can do the jobs of these tests.
pub fn builder() -> NodeBuilder {
    Node::builder().program(env!("CARGO_BIN_EXE_starling-sabotaged"))
}

/// A job that takes these numbers of seconds, one for each time that it is claimed.
pub fn job(kind: &str, seconds: &str) -> NewJob {
    NewJob::new("t".into(), "starling.test", kind, seconds.to_owned())
}

/// Servers for nodes, and a store of jobs over the same database.
pub struct Place {
    redis: Redis,
    /// What nodes connect to.
    url: String,
    pub store: Arc<dyn JobStore>,
    _bouncer: Option<PgBouncer>,
}

impl Place {
    pub async fn direct(name: &str) -> Place {
        let url = Postgres::shared().await.unwrap().create_database(name).await.unwrap();
        Place::over(url.clone(), &url, None).await
    }

    /// A place where nothing can be left on a connection.
    pub async fn pooled(name: &str) -> Place {
        let postgres = Postgres::shared().await.unwrap();
        let url = postgres.create_database(name).await.unwrap();
        let bouncer = PgBouncer::start(postgres).await.unwrap();
        Place::over(bouncer.url_of(name), &url, Some(bouncer)).await
    }

    async fn over(url: String, direct: &str, bouncer: Option<PgBouncer>) -> Place {
        let store = store(direct);
        store.migrate().await.unwrap();
        Place { redis: Redis::start().await.unwrap(), url, store: Arc::new(store), _bouncer: bouncer }
    }

    pub fn builder(&self) -> NodeBuilder {
        builder().redis(&self.redis.url()).database(&self.url)
    }

    /// Starts a node that only works.
    pub async fn worker(&self) -> Node {
        let node = self.builder().env("STARLING_ROLES", "worker").without_waiting().start().await.unwrap();
        let url = format!("http://{}/ready", node.metrics_address());
        let ready = async || Ok(http::get(&url).await?.status == 200);
        until_true(SOON, "the worker", ready).await.unwrap_or_else(|error| panic!("{error}: {}", node.log()));
        node
    }

    pub async fn add(&self, job: NewJob) -> JobId {
        self.store.enqueue(&[job]).await.unwrap()[0].job
    }

    pub async fn job(&self, id: JobId) -> JobDetails {
        self.store.job(id).await.unwrap().unwrap()
    }

    /// Waits until the job runs, and returns which of the nodes has it.
    pub async fn doer<'a>(&self, id: JobId, nodes: &'a [Node; 2]) -> (&'a Node, &'a Node) {
        let name = until(SOON, "the job to run", async || {
            Ok(self
                .store
                .standing(id)
                .await?
                .and_then(|standing| standing.running)
                .map(|running| running.worker))
        });
        let name = name.await.unwrap();
        let [one, other] = nodes;
        if one.name() == name { (one, other) } else { (other, one) }
    }

    /// Waits until the job is done.
    pub async fn done(&self, id: JobId) -> JobDetails {
        let state = async || Ok(self.store.standing(id).await?.is_some_and(|s| s.state == JobState::Done));
        until_true(SOON, "the job to be done", state).await.unwrap();
        self.job(id).await
    }

    /// Waits until an attempt of the job is over, and returns how long that took.
    pub async fn lost_after(&self, id: JobId, began: Instant) -> Duration {
        let over = async || Ok(!self.job(id).await.attempts.is_empty());
        until_true(SOON, "the attempt to be over", over).await.unwrap();
        began.elapsed()
    }
}

/// A store of jobs over this database.
pub fn store(url: &str) -> PostgresJobs {
    let config = PoolConfig { wait_timeout: SOON, statement_timeout: SOON, ..PoolConfig::default() };
    PostgresJobs::new(Pool::new("primary", url, &config, 4).unwrap())
}

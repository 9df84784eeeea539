//! Servers and nodes for a test.

use std::sync::Arc;

use anyhow::Result;
use starling_database::postgres::{Pool, PoolConfig};
use starling_jobs::postgres::PostgresJobs;
use starling_jobs::{JobDetails, JobFilter, JobId, JobState, JobStore, NewJob};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::Postgres;
use starling_testkit::rabbitmq::Rabbitmq;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;

use crate::SOON;

/// Jobs that are kept: all.
const KEPT: &str = "1000000";

pub struct Place {
    pub rabbitmq: Rabbitmq,
    pub postgres: Postgres,
    redis: Redis,
    pub store: Arc<dyn JobStore>,
}

impl Place {
    pub async fn start() -> Place {
        Self::with(Rabbitmq::start().await.unwrap()).await
    }

    pub async fn with(rabbitmq: Rabbitmq) -> Place {
        let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
        let config = PoolConfig { wait_timeout: SOON, statement_timeout: SOON, ..PoolConfig::default() };
        let store = PostgresJobs::new(Pool::new("primary", &postgres.url(), &config, 4).unwrap());
        store.migrate().await.unwrap();
        Place { rabbitmq, postgres, redis, store: Arc::new(store) }
    }

    /// A node with these bridges, which gets to RabbitMQ by this URL.
    pub fn node(&self, url: &str, bridges: &str) -> NodeBuilder {
        Node::builder()
            .program(env!("CARGO_BIN_EXE_starling-sabotaged"))
            .redis(&self.redis.url())
            .database(&self.postgres.url())
            .env("RABBITMQ_URL", url)
            .env("STARLING_JOBS_KEPT_DONE", KEPT)
            .env("STARLING_JOBS_KEPT_FAILED", KEPT)
            .file("starling.toml", bridges)
            .arg("--config")
            .arg("starling.toml")
    }

    /// Jobs of a tenant's queue, oldest first.
    pub async fn jobs(&self, tenant: &str, queue: &str) -> Result<Vec<JobDetails>> {
        let filter = JobFilter {
            tenant: tenant.into(),
            queues: vec![queue.to_owned()],
            state: None,
            kind: None,
            before: None,
            limit: 200,
        };
        let found = self.store.find(&filter).await?;
        let ids: Vec<JobId> = found.iter().map(|job| job.id).collect();
        let mut jobs = self.store.jobs(&ids).await?;
        jobs.reverse();
        Ok(jobs)
    }

    pub async fn add(&self, job: NewJob) -> JobId {
        self.store.enqueue(&[job]).await.unwrap()[0].job
    }

    /// Waits until a job is done.
    pub async fn done(&self, id: JobId) -> JobDetails {
        let state = async || Ok(self.store.standing(id).await?.is_some_and(|s| s.state == JobState::Done));
        until_true(SOON, "the job to be done", state).await.unwrap();
        self.store.job(id).await.unwrap().unwrap()
    }

    /// What a query of the database returns, line by line. It is asked again while the database is away.
    pub async fn lines(&self, sql: &str) -> Result<Vec<String>> {
        let text = self.postgres.psql(sql).await?;
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

/// Waits until bridges of a node work.
pub async fn connected(node: &Node, bridges: f64) {
    let works = async || Ok(node.metric("starling_rabbitmq_connected", "").await? == bridges);
    until_true(SOON, "the bridges to work", works).await.unwrap();
}

//! The real program on other infrastructure: a Redis Cluster, Redis behind Sentinel, PostgreSQL behind PgBouncer, and
//! a read replica. Each test tries everything that crosses nodes, and breaks what may break.

mod log;
mod meeting;
mod nodes;
mod person;
mod pgbouncer;
mod redis;
mod replica;
mod talk;

use std::time::Duration;

use anyhow::Result;
use starling_testkit::node::{Cluster, ClusterBuilder};
use starling_testkit::postgres::Postgres;

/// Only one test at a time, because the machine is small.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Timeout for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Builds two nodes. They count a user's writes in Redis, but the tests do not reach the limit.
fn two_nodes() -> ClusterBuilder {
    Cluster::builder(2).unlimited().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "1000000")
}

/// Creates a database of this name on the server that these tests share.
async fn database(name: &str) -> Result<String> {
    Postgres::shared().await?.create_database(name).await
}

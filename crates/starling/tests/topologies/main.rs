//! The real program on what an operator may put under it: a Redis Cluster, Redis behind Sentinel, PostgreSQL behind PgBouncer, and
//! a second address to read from. On each, everything that crosses nodes is tried, and what may break is broken.

mod database;
mod log;
mod meeting;
mod person;
mod redis;
mod talk;

use std::time::Duration;

use anyhow::Result;
use starling_testkit::node::{Cluster, ClusterBuilder};
use starling_testkit::postgres::Postgres;

/// One at a time: the machine is small.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// How long something may take that should come at once, on a machine that is busy.
const SOON: Duration = Duration::from_secs(30);

/// Two nodes to be. They count what a user writes, in Redis, but the tests do not reach the limit.
fn two_nodes() -> ClusterBuilder {
    Cluster::builder(2).unlimited().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "1000000")
}

/// A database of this name in the server that all tests here share.
async fn database(name: &str) -> Result<String> {
    Postgres::shared().await?.create_database(name).await
}

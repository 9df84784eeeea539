//! Where jobs run: PostgreSQL and Redis for all runs, and a database and a node for each.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use starling_testkit::token::Token;
use tokio::process::Command;

use super::Programs;

/// How long a statement may take that empties a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers that all runs share.
pub struct Place {
    postgres: Postgres,
    redis: Redis,
    databases: u32,
}

/// What one run needs.
pub struct Ground {
    /// Dropped first.
    pub node: Option<Node>,
    /// Its database.
    pub database: String,
    name: String,
}

impl Place {
    /// PostgreSQL as it is shipped, commits on the disk, and Redis as it is shipped, which writes nothing.
    pub async fn start() -> Result<Self> {
        let settings = [("shared_buffers", "256MB"), ("log_min_messages", "error")];
        let (postgres, redis) = tokio::try_join!(Postgres::start_with(&settings), Redis::start())?;
        Ok(Self { postgres, redis, databases: 0 })
    }

    /// PostgreSQL.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Redis.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// An empty database, with a node over it if `with_node`. Nothing is left to write from the run before.
    pub async fn prepare(&mut self, with_node: bool, programs: &Programs) -> Result<Ground> {
        self.databases += 1;
        let name = format!("jobs_{}", self.databases);
        let database = self.postgres.create_database(&name).await?;
        self.empty_redis().await?;
        self.postgres.psql("CHECKPOINT").await?;
        let node = if with_node { Some(self.node(&database, programs).await?) } else { None };
        Ok(Ground { node, database, name })
    }

    async fn node(&self, database: &str, programs: &Programs) -> Result<Node> {
        let node = Node::builder().unlimited().program(&programs.starling);
        node.redis(&self.redis.url()).database(database).start().await
    }

    /// Removes what a run has left.
    pub async fn clear(&self, ground: Ground) -> Result<()> {
        drop(ground.node);
        let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", ground.name);
        self.postgres.psql_in("postgres", &drop).await.map(std::mem::drop)
    }

    async fn empty_redis(&self) -> Result<()> {
        let port = self.redis.address().port().to_string();
        let mut command = Command::new(starling_testkit::programs::find("redis-cli")?);
        command.args(["-p", &port, "FLUSHALL"]).stdout(Stdio::null()).kill_on_drop(true);
        let status =
            tokio::time::timeout(PATIENCE, command.status()).await.context("Redis takes too long")??;
        ensure!(status.success(), "Redis could not be emptied");
        Ok(())
    }
}

/// A token that may do everything with jobs.
pub fn token(node: &Node) -> String {
    Token::of("bench").scope("jobs:*").sign(node.secret())
}

//! The three kinds of Redis, and the faults of each.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use starling_testkit::wait;

use super::fault::RedisKind;

/// The longest time for the servers to agree on a new master.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// A Redis of some kind. Faults affect all of its servers.
#[derive(Debug)]
pub enum Servers {
    /// One server.
    Alone(Box<Redis>),
    /// Masters and replicas.
    Cluster(RedisCluster),
    /// A master and a replica under sentinels.
    Sentinel(Box<RedisSentinel>),
}

impl Servers {
    /// Starts the servers.
    pub async fn start(kind: RedisKind) -> Result<Self> {
        Ok(match kind {
            RedisKind::Alone => Self::Alone(Box::new(Redis::start().await?)),
            RedisKind::Cluster => Self::Cluster(RedisCluster::start_with_replicas().await?),
            RedisKind::Sentinel => Self::Sentinel(Box::new(RedisSentinel::start().await?)),
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Self::Alone(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Sentinel(pair) => pair.url(),
        }
    }

    /// The address of a single server, to which a link can lead.
    pub fn alone(&self) -> Option<SocketAddr> {
        match self {
            Self::Alone(redis) => Some(redis.address()),
            _ => None,
        }
    }

    /// Stops the servers (SIGSTOP).
    pub fn stop(&self) -> Result<()> {
        self.all().iter().try_for_each(|redis| redis.stop())
    }

    /// Resumes the servers after [`stop`](Self::stop).
    pub fn resume(&self) -> Result<()> {
        self.all().iter().try_for_each(|redis| redis.resume())
    }

    /// Kills the servers.
    pub async fn kill(&self) -> Result<()> {
        for redis in self.all() {
            redis.kill().await?;
        }
        Ok(())
    }

    /// Starts the killed servers, which are empty.
    pub async fn restart(&self) -> Result<()> {
        if let Self::Sentinel(pair) = self {
            pair.master().await?.restart().await?;
            return pair.revive().await;
        }
        for redis in self.all() {
            redis.restart().await?;
        }
        Ok(())
    }

    /// Removes all keys.
    pub async fn flush(&self) -> Result<()> {
        match self {
            Self::Alone(redis) => redis.flushall().await,
            Self::Cluster(cluster) => cluster.flushall().await,
            Self::Sentinel(pair) => pair.master().await?.flushall().await,
        }
    }

    /// Kills a master, and returns when its replica has taken over.
    pub async fn fail_over(&self) -> Result<()> {
        match self {
            Self::Alone(_) => bail!("a Redis alone has nothing to fail over to"),
            Self::Cluster(cluster) => {
                let (master, replica) = first_pair(cluster).await?;
                master.kill().await?;
                let promoted = async || is_master(replica).await;
                wait::until_true(AGREE_LIMIT, "the promotion of a replica", promoted).await
            }
            Self::Sentinel(pair) => pair.kill_master().await,
        }
    }

    /// Restarts the killed master as a replica.
    pub async fn mend(&self) -> Result<()> {
        match self {
            Self::Sentinel(pair) => pair.revive().await,
            Self::Cluster(cluster) => {
                let dead = cluster.nodes().iter().find(|node| !node.is_running()).context("a dead node")?;
                dead.restart().await?;
                let follows = async || {
                    let facts = dead.cli(&["INFO", "replication"]).await?.text();
                    Ok(facts.contains("master_link_status:up"))
                };
                wait::until_true(AGREE_LIMIT, "a former master to follow", follows).await
            }
            Self::Alone(_) => Ok(()),
        }
    }

    fn all(&self) -> Vec<&Redis> {
        match self {
            Self::Alone(redis) => vec![&**redis],
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
            Self::Sentinel(pair) => pair.servers().iter().collect(),
        }
    }
}

/// The master of the first third of all slots, and its replica.
async fn first_pair(cluster: &RedisCluster) -> Result<(&Redis, &Redis)> {
    let nodes = cluster.nodes();
    let (first, second) = (&nodes[0], &nodes[nodes.len() / 2]);
    Ok(if is_master(first).await? { (first, second) } else { (second, first) })
}

async fn is_master(redis: &Redis) -> Result<bool> {
    Ok(redis.cli(&["INFO", "replication"]).await?.text().contains("role:master"))
}

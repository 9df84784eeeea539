//! The three kinds of Redis, and what can be done to each.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};

use super::fault::RedisKind;

/// A Redis of some kind. What is done to it is done to every server of it.
#[derive(Debug)]
pub enum Servers {
    /// One server.
    Alone(Redis),
    /// Masters and replicas.
    Cluster(RedisCluster),
    /// A master and a replica under sentinels.
    Sentinel(Box<RedisSentinel>),
}

impl Servers {
    /// Starts it.
    pub async fn start(kind: RedisKind) -> Result<Self> {
        Ok(match kind {
            RedisKind::Alone => Self::Alone(Redis::start().await?),
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

    /// The address of a server alone, which a link can lead to.
    pub fn alone(&self) -> Option<SocketAddr> {
        match self {
            Self::Alone(redis) => Some(redis.address()),
            _ => None,
        }
    }

    /// Hangs.
    pub fn stop(&self) -> Result<()> {
        self.all().iter().try_for_each(|redis| redis.stop())
    }

    /// Goes on.
    pub fn resume(&self) -> Result<()> {
        self.all().iter().try_for_each(|redis| redis.resume())
    }

    /// Dies.
    pub async fn kill(&self) -> Result<()> {
        for redis in self.all() {
            redis.kill().await?;
        }
        Ok(())
    }

    /// Comes back, empty.
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

    /// Forgets everything.
    pub async fn flush(&self) -> Result<()> {
        match self {
            Self::Alone(redis) => redis.flushall().await,
            Self::Cluster(cluster) => cluster.flushall().await,
            Self::Sentinel(pair) => pair.master().await?.flushall().await,
        }
    }

    /// Fails over to a replica. Under sentinels the master is killed; in a Cluster a replica takes over in good order.
    pub async fn fail_over(&self) -> Result<()> {
        match self {
            Self::Alone(_) => bail!("a Redis alone has nothing to fail over to"),
            Self::Cluster(cluster) => cluster.failover().await,
            Self::Sentinel(pair) => pair.kill_master().await,
        }
    }

    /// Makes what the failover has left whole again.
    pub async fn mend(&self) -> Result<()> {
        match self {
            Self::Sentinel(pair) => pair.revive().await,
            _ => Ok(()),
        }
    }

    fn all(&self) -> Vec<&Redis> {
        match self {
            Self::Alone(redis) => vec![redis],
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
            Self::Sentinel(pair) => pair.servers().iter().collect(),
        }
    }
}

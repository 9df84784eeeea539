//! A Redis Cluster on the loopback.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Redis;
use crate::{Port, free_port, wait};

const MASTERS: usize = 3;
const SETTINGS: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"];
const SLOTS: usize = 16_384;
/// The longest time for the nodes to know one another, or to agree on a new master.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// A Redis Cluster of three masters, with replicas if asked for.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The reserved ports of the cluster bus.
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts three masters, and returns when every one sees the whole cluster as well.
    ///
    /// # Errors
    /// When they can't be started or do not agree.
    pub async fn start() -> Result<Self> {
        Self::launch(0, &SETTINGS).await
    }

    /// Starts three masters with one replica each.
    ///
    /// # Errors
    /// When they can't be started or do not agree.
    pub async fn start_with_replicas() -> Result<Self> {
        Self::launch(1, &SETTINGS).await
    }

    /// Starts three masters with one replica each, with the settings in these files.
    ///
    /// # Errors
    /// When they can't be started or do not agree.
    pub async fn start_from(files: &[&Path]) -> Result<Self> {
        let mut options = Vec::new();
        for file in files {
            options.extend(["--include", file.to_str().context("a path in UTF-8")?]);
        }
        Self::launch(1, &options).await
    }

    async fn launch(replicas: usize, settings: &[&str]) -> Result<Self> {
        let mut cluster = Self { nodes: Vec::new(), _buses: Vec::new() };
        for _ in 0..MASTERS * (1 + replicas) {
            cluster.add_node(settings).await?;
        }
        cluster.assign_slots().await?;
        cluster.introduce().await?;
        for (index, replica) in cluster.nodes.iter().enumerate().skip(MASTERS) {
            cluster.make_replica(replica, &cluster.nodes[index % MASTERS]).await?;
        }
        cluster.healthy().await?;
        Ok(cluster)
    }

    /// `redis-cluster://HOST:PORT?node=HOST:PORT&…` with every node.
    pub fn url(&self) -> String {
        let others: Vec<String> =
            self.nodes[1..].iter().map(|node| format!("node={}", node.address())).collect();
        format!("redis-cluster://{}?{}", self.nodes[0].address(), others.join("&"))
    }

    /// The nodes: first the three that began as masters, then the replicas in the order of their masters.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Removes everything on every master.
    ///
    /// # Errors
    /// When a node does not answer.
    pub async fn flushall(&self) -> Result<()> {
        for node in &self.nodes {
            if node.info("role").await? == "master" {
                node.flushall().await?;
            }
        }
        Ok(())
    }

    /// Makes the replica of the first pair its master, and returns when every node agrees. The former master becomes its
    /// replica; calling it again turns them back.
    ///
    /// # Errors
    /// When the cluster has no replicas, or does not agree in time.
    pub async fn failover(&self) -> Result<()> {
        ensure!(self.nodes.len() > MASTERS, "a cluster without replicas can't fail over");
        let pair = [&self.nodes[0], &self.nodes[MASTERS]];
        let replica = if pair[0].info("role").await? == "master" { pair[1] } else { pair[0] };
        replica.cli(&["CLUSTER", "FAILOVER"]).await?;
        let promoted = async || Ok(replica.info("role").await? == "master");
        wait::until_true(AGREE_LIMIT, "the promotion of a replica", promoted).await?;
        self.healthy().await
    }

    /// Kills the first master, and returns when its replica is a master in its place.
    ///
    /// # Errors
    /// When the cluster has no replicas, or they do not agree in time.
    pub async fn kill_master(&self) -> Result<()> {
        ensure!(self.nodes.len() > MASTERS, "a cluster without replicas can't fail over");
        self.nodes[0].kill().await?;
        let replica = &self.nodes[MASTERS];
        let promoted = async || Ok(replica.info("role").await? == "master");
        wait::until_true(AGREE_LIMIT, "the promotion of a replica", promoted).await?;
        let survivors: Vec<&Redis> = self.nodes[1..].iter().collect();
        agree(&survivors).await
    }

    async fn add_node(&mut self, settings: &[&str]) -> Result<()> {
        let bus = free_port()?;
        let bus_port = bus.number().to_string();
        let options = [&["--cluster-port", &bus_port], settings].concat();
        self.nodes.push(Redis::start_with(&options).await?);
        self._buses.push(bus);
        Ok(())
    }

    async fn assign_slots(&self) -> Result<()> {
        for (index, master) in self.nodes[..MASTERS].iter().enumerate() {
            let (first, last) = (SLOTS * index / MASTERS, SLOTS * (index + 1) / MASTERS - 1);
            master.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            // Different epochs from the start avoid conflicts between the nodes.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
        }
        Ok(())
    }

    async fn introduce(&self) -> Result<()> {
        // Each node meets all others: gossip alone would take seconds.
        for node in &self.nodes {
            for (other, bus) in self.nodes.iter().zip(&self._buses) {
                let (port, bus) = (other.port().to_string(), bus.number().to_string());
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
            }
        }
        let known = self.nodes.len();
        for node in &self.nodes {
            let all_known = async || {
                let list = node.cli(&["CLUSTER", "NODES"]).await?.text();
                Ok(list.lines().count() == known && !list.contains("handshake"))
            };
            wait::until_true(AGREE_LIMIT, "the nodes to know one another", all_known).await?;
        }
        Ok(())
    }

    async fn make_replica(&self, replica: &Redis, master: &Redis) -> Result<()> {
        let id = master.cli(&["CLUSTER", "MYID"]).await?.text();
        replica.cli(&["CLUSTER", "REPLICATE", &id]).await?;
        let linked = async || Ok(replica.info("master_link_status").await? == "up");
        wait::until_true(AGREE_LIMIT, "a replica's link to its master", linked).await
    }

    async fn healthy(&self) -> Result<()> {
        agree(&self.nodes.iter().collect::<Vec<_>>()).await
    }
}

/// Waits until every one of these nodes says that all is well, and they name the same masters.
async fn agree(nodes: &[&Redis]) -> Result<()> {
    let agreed = async || {
        let mut views = Vec::new();
        for node in nodes {
            if !node.cli(&["CLUSTER", "INFO"]).await?.text().contains("cluster_state:ok") {
                return Ok(false);
            }
            views.push(masters(&node.cli(&["CLUSTER", "NODES"]).await?.text()));
        }
        let first = views.first().context("a cluster without nodes")?;
        Ok(first.len() == MASTERS && views.iter().all(|view| view == first))
    };
    wait::until_true(AGREE_LIMIT, "the cluster to be well", agreed).await
}

/// The ids of the nodes that own slots, in order, as `CLUSTER NODES` lists them.
fn masters(list: &str) -> Vec<String> {
    let owns_slots =
        |line: &&str| line.contains("master") && !line.contains("fail") && line.split(' ').count() > 8;
    let mut ids: Vec<String> = list
        .lines()
        .filter(owns_slots)
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_alive;

    #[tokio::test]
    async fn three_masters_share_the_slots_and_are_gone_after_the_drop() {
        let cluster = RedisCluster::start().await.unwrap();
        let mut answered = 0;
        for node in cluster.nodes() {
            match node.cli(&["SET", "key", "value"]).await {
                Ok(_) => answered += 1,
                Err(error) => assert!(format!("{error:#}").contains("MOVED"), "{error:#}"),
            }
        }
        assert_eq!(answered, 1, "one node owns the key's slot");
        let pids: Vec<u32> = cluster.nodes().iter().map(Redis::pid).collect();
        drop(cluster);
        assert!(pids.into_iter().all(|pid| !is_alive(pid)));
    }

    #[tokio::test]
    async fn a_failover_makes_the_replica_a_master() {
        let cluster = RedisCluster::start_with_replicas().await.unwrap();
        cluster.failover().await.unwrap();
        assert_eq!(cluster.nodes()[3].info("role").await.unwrap(), "master");
        assert_eq!(cluster.nodes()[0].info("role").await.unwrap(), "slave");
        cluster.flushall().await.unwrap();
    }
}

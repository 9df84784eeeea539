//! Nodes on one of the fan-outs, with the servers that they need.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::memory::MemoryBus;
use starling_fanout::redis::{RedisConfig, RedisFanout};
use starling_fanout::{Destination, Fanout, Publication, TopicPublication, TopicSettings};
use starling_model::TenantName;
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use tokio::sync::OnceCell;

use crate::witness::Witness;

/// Which fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Alone,
    Cluster,
    Sentinel,
}

/// Where the nodes of one test meet. Tests share their servers, so each marks what is its own.
pub struct Setting {
    pub kind: Kind,
    /// In all names of this test.
    pub mark: String,
    pub topics: TopicSettings,
    /// A busy machine is no reason for a failure, so this is long; tests of faults shorten it.
    pub command_timeout: Duration,
    bus: Option<MemoryBus>,
    url: String,
    servers: Vec<&'static Redis>,
}

/// A node and what it was delivered.
pub struct Node {
    pub name: String,
    pub fanout: Arc<dyn Fanout>,
    pub inbox: Arc<Witness>,
}

impl Setting {
    /// On servers that other tests use, too.
    pub async fn shared(kind: Kind) -> Result<Self> {
        static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();
        static SENTINEL: OnceCell<RedisSentinel> = OnceCell::const_new();
        let (url, servers) = match kind {
            Kind::Memory => (String::new(), Vec::new()),
            Kind::Alone => {
                let redis = Redis::shared().await?;
                (redis.url(), vec![redis])
            }
            Kind::Cluster => {
                let cluster = CLUSTER.get_or_try_init(RedisCluster::start).await?;
                (cluster.url(), cluster.nodes().iter().collect())
            }
            Kind::Sentinel => {
                let pair = SENTINEL.get_or_try_init(RedisSentinel::start).await?;
                (pair.url(), pair.servers().iter().collect())
            }
        };
        Ok(Self { servers, ..Self::at(kind, url) })
    }

    /// On servers of the test's own.
    pub fn at(kind: Kind, url: String) -> Self {
        static TESTS: AtomicU32 = AtomicU32::new(0);
        let topics = TopicSettings { history: 10, history_seconds: 60 };
        Self {
            kind,
            mark: format!("t{}-", TESTS.fetch_add(1, Ordering::Relaxed)),
            topics,
            command_timeout: Duration::from_secs(10),
            bus: (kind == Kind::Memory).then(|| MemoryBus::new(topics)),
            url,
            servers: Vec::new(),
        }
    }

    /// The same place, with other settings of topics.
    pub fn with_topics(&self, topics: TopicSettings) -> Self {
        Self {
            kind: self.kind,
            mark: self.mark.clone(),
            topics,
            command_timeout: self.command_timeout,
            bus: self.bus.is_some().then(|| MemoryBus::new(topics)),
            url: self.url.clone(),
            servers: self.servers.clone(),
        }
    }

    /// Starts a node.
    pub async fn node(&self, name: &str) -> Result<Node> {
        let node = self.unstarted(name)?;
        node.fanout.start(node.inbox.clone()).await?;
        Ok(node)
    }

    pub fn unstarted(&self, name: &str) -> Result<Node> {
        let name = format!("{}{name}", self.mark);
        let fanout: Arc<dyn Fanout> = match &self.bus {
            Some(bus) => bus.node(&name),
            None => Arc::new(RedisFanout::connect(self.config(&name))?),
        };
        Ok(Node { name, fanout, inbox: Arc::default() })
    }

    pub fn config(&self, node: &str) -> RedisConfig {
        RedisConfig {
            topics: self.topics,
            command_timeout: self.command_timeout,
            ..RedisConfig::new(self.url.parse().expect("an address"), node)
        }
    }

    /// Every Redis server of a shared setting.
    pub fn servers(&self) -> &[&'static Redis] {
        &self.servers
    }

    /// What all Redis servers hold of this test's topics: keys, and fields of the hashes for all topics.
    pub async fn traces(&self) -> Result<Vec<String>> {
        let mut traces = Vec::new();
        for server in &self.servers {
            traces.extend(server.cli(&["KEYS", &format!("*{}*", self.tenant())]).await?.texts());
            for pattern in ["starling:v1:numbers:*", "starling:v1:publications:*"] {
                for key in server.cli(&["KEYS", pattern]).await?.texts() {
                    let fields = server.cli(&["HKEYS", &key]).await?.texts();
                    traces.extend(fields.into_iter().filter(|field| field.contains(&*self.tenant())));
                }
            }
        }
        Ok(traces)
    }

    /// A tenant that no other test has.
    pub fn tenant(&self) -> TenantName {
        format!("{}tenant", self.mark).into()
    }

    /// A publication of this test.
    pub fn publication(&self, partition: u16, text: &str) -> Publication {
        Publication::to_everyone(partition, Bytes::from(format!("{}{text}", self.mark)))
    }

    /// A publication of this test for some nodes.
    pub fn publication_for(&self, nodes: &[&Node], partition: u16, text: &str) -> Publication {
        let names = nodes.iter().map(|node| node.name.as_str().into()).collect();
        Publication { to: Destination::Nodes(names), ..self.publication(partition, text) }
    }

    /// A publication of a topic of this test's tenant.
    pub fn topic(&self, topic: &str, body: impl Into<Bytes>) -> TopicPublication {
        TopicPublication { tenant: self.tenant(), topic: topic.into(), body: body.into() }
    }
}

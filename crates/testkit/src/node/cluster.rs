//! Several nodes with one Redis and one database.

use anyhow::{Context, Result};

use super::{Node, NodeBuilder, SECRET};
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::token::Token;

/// Nodes that work together.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped before what they use.
    nodes: Vec<Node>,
    template: NodeBuilder,
    next: usize,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
    redis_url: String,
    database_url: String,
}

/// Settings of a cluster to start.
#[derive(Debug)]
pub struct ClusterBuilder {
    nodes: usize,
    template: NodeBuilder,
    redis: Option<String>,
    database: Option<String>,
}

impl Cluster {
    /// Starts this many nodes with a Redis and a PostgreSQL of their own.
    ///
    /// # Errors
    /// When something can't be started or does not become ready, with its log.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::builder(nodes).start().await
    }

    /// This many nodes.
    pub fn builder(nodes: usize) -> ClusterBuilder {
        ClusterBuilder { nodes, template: Node::builder().secret(SECRET), redis: None, database: None }
    }

    /// The nodes, in the order of their start.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The WebSocket URLs of all nodes.
    pub fn ws_urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::ws_url).collect()
    }

    /// A token of this user that every node accepts.
    pub fn token(&self, user: &str) -> String {
        Token::of(user).sign(&self.template.secret)
    }

    /// Its own Redis.
    ///
    /// # Errors
    /// When it uses a given one.
    pub fn redis(&self) -> Result<&Redis> {
        self.redis.as_ref().context("this cluster was given its Redis")
    }

    /// Its own PostgreSQL.
    ///
    /// # Errors
    /// When it uses a given database.
    pub fn postgres(&self) -> Result<&Postgres> {
        self.postgres.as_ref().context("this cluster was given its database")
    }

    /// The URL of the Redis that it uses.
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// The URL of the database that it uses.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Starts one more node.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn add_node(&mut self) -> Result<&Node> {
        let node = self.builder_of_next().start().await?;
        self.nodes.push(node);
        self.nodes.last().context("a node was added")
    }

    /// Removes a node from the cluster. It runs until it is dropped.
    pub fn remove_node(&mut self, index: usize) -> Node {
        self.nodes.remove(index)
    }

    fn builder_of_next(&mut self) -> NodeBuilder {
        self.next += 1;
        let name = format!("node-{}", self.next);
        let node = self.template.clone().name(&name).redis(&self.redis_url).database(&self.database_url);
        // Nodes have another shape on one processor. Every test with several nodes meets both.
        if self.next.is_multiple_of(2) { node.on_one_processor() } else { node }
    }
}

impl ClusterBuilder {
    /// Uses this Redis instead of starting one.
    #[must_use]
    pub fn redis(mut self, url: &str) -> Self {
        self.redis = Some(url.to_owned());
        self
    }

    /// Uses this database instead of starting a PostgreSQL.
    #[must_use]
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// Sets a variable of every node.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.template = self.template.env(name, value);
        self
    }

    /// As [`NodeBuilder::unlimited`], for every node.
    #[must_use]
    pub fn unlimited(mut self) -> Self {
        self.template = self.template.unlimited();
        self
    }

    /// As [`NodeBuilder::program`], for every node.
    #[must_use]
    pub fn program(mut self, program: impl Into<std::path::PathBuf>) -> Self {
        self.template = self.template.program(program);
        self
    }

    /// As [`NodeBuilder::secret`], for every node.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.template = self.template.secret(secret);
        self
    }

    /// Starts everything, the nodes at the same time, and waits until all are ready.
    ///
    /// # Errors
    /// When something can't be started or does not become ready, with its log.
    pub async fn start(self) -> Result<Cluster> {
        let redis = async {
            Ok(match self.redis {
                Some(url) => (url, None),
                None => Redis::start().await.map(|redis| (redis.url(), Some(redis)))?,
            })
        };
        let postgres = async {
            Ok::<_, anyhow::Error>(match self.database {
                Some(url) => (url, None),
                None => Postgres::start().await.map(|postgres| (postgres.url(), Some(postgres)))?,
            })
        };
        let ((redis_url, redis), (database_url, postgres)) = tokio::try_join!(redis, postgres)?;
        let template = self.template;
        let mut cluster =
            Cluster { nodes: Vec::new(), template, next: 0, redis, postgres, redis_url, database_url };
        let builders: Vec<NodeBuilder> = (0..self.nodes).map(|_| cluster.builder_of_next()).collect();
        let starts = builders.into_iter().map(NodeBuilder::start);
        cluster.nodes = futures_util::future::try_join_all(starts).await?;
        Ok(cluster)
    }
}

//! Nodes that all scenarios share. Each scenario uses its own tenants.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Upgrade};
use starling_testkit::http::{Request, Response};
use starling_testkit::node::{Cluster, Node, SECRET};
use starling_testkit::token::Token;
use tokio::runtime::Builder;
use tokio::sync::OnceCell;

use crate::talk::Talk;

/// `replay_limit` of the shared nodes, so small that a few messages exceed it.
pub const REPLAY_LIMIT: u64 = 20;

/// Setup of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// A single node with SQLite and without Redis.
    Alone,
    /// Two nodes with Redis and PostgreSQL.
    Cluster,
}

/// Place of one run of a scenario.
pub struct Place {
    pub encoding: Encoding,
    tenant: String,
    /// The same node twice, for a single node.
    nodes: [&'static Node; 2],
}

/// Runs a scenario in all four places at the same time, each on a thread named after the place.
pub fn everywhere(scenario: impl AsyncFn(&Place) + Sync) {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let scenario = &scenario;
    thread::scope(|scope| {
        let mut runs = Vec::new();
        for arrangement in [Arrangement::Alone, Arrangement::Cluster] {
            for encoding in Encoding::ALL {
                let name = format!("{arrangement:?}-{encoding:?}");
                let tenant = format!("tenant-{number}-{name}");
                let run = move || {
                    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let nodes = arrangement.shared_nodes().await;
                        scenario(&Place { encoding, tenant, nodes }).await;
                    });
                };
                runs.push((
                    name.clone(),
                    thread::Builder::new().name(name).spawn_scoped(scope, run).unwrap(),
                ));
            }
        }
        let failed: Vec<String> =
            runs.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed in {}", failed.join(", "));
    });
}

impl Arrangement {
    /// Starts separate nodes, for scenarios that need other settings than the shared nodes have.
    pub async fn nodes_with(self, settings: &[(&str, &str)]) -> Vec<Node> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let builder = || {
            let name = format!("own-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            settings.iter().fold(Node::builder().name(&name), |node, (name, value)| node.env(name, value))
        };
        match self {
            Self::Alone => vec![builder().start().await.unwrap()],
            Self::Cluster => {
                let cluster = shared_cluster().await;
                let start = || builder().redis(cluster.redis_url()).database(cluster.database_url()).start();
                let (node, other) = tokio::try_join!(start(), start()).unwrap();
                vec![node, other]
            }
        }
    }

    async fn shared_nodes(self) -> [&'static Node; 2] {
        match self {
            Self::Alone => [shared_node().await; 2],
            Self::Cluster => {
                let cluster = shared_cluster().await;
                [cluster.node(0), cluster.node(1)]
            }
        }
    }
}

/// Returns the single node that the scenarios share.
pub async fn shared_node() -> &'static Node {
    static ALONE: OnceCell<Node> = OnceCell::const_new();
    let start =
        || Node::builder().unlimited().env("STARLING_REPLAY_LIMIT", &REPLAY_LIMIT.to_string()).start();
    ALONE.get_or_try_init(start).await.unwrap()
}

/// Returns the two nodes that the scenarios share. They count writes, as in production, but the limit is never reached.
async fn shared_cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || {
        Cluster::builder(2)
            .unlimited()
            .env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "1000000")
            .env("STARLING_REPLAY_LIMIT", &REPLAY_LIMIT.to_string())
            .start()
    };
    CLUSTER.get_or_try_init(start).await.unwrap()
}

impl Place {
    /// Returns the tenant of this run.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Returns a node: 0, or 1 for the other one if there are two.
    pub fn node(&self, index: usize) -> &'static Node {
        self.nodes[index]
    }

    /// Returns an unsigned token for a user in this run's tenant, which can be changed.
    pub fn claims(&self, user: &str) -> Token {
        Token::of(user).tenant(&self.tenant)
    }

    /// Returns a valid token for a user in this run's tenant.
    pub fn token(&self, user: &str) -> String {
        self.claims(user).sign(SECRET)
    }

    /// Returns a token with the scope `admin`.
    pub fn admin(&self) -> String {
        self.claims("operator").scope("admin").sign(SECRET)
    }

    /// Opens a connection without sending `connect`.
    pub async fn socket(&self, node: usize) -> Client {
        Upgrade::to(&self.node(node).ws_url()).encoding(self.encoding).open().await.unwrap()
    }

    /// Returns a connected client.
    pub async fn connect(&self, node: usize, user: &str) -> Client {
        self.connect_with(node, &self.token(user)).await
    }

    /// Returns a client that has connected with this token.
    pub async fn connect_with(&self, node: usize, token: &str) -> Client {
        Client::connect(&self.node(node).ws_url(), token, self.encoding).await.unwrap()
    }

    /// Returns a client that has connected with this `resume`.
    pub async fn resume(&self, node: usize, user: &str, resume: Value) -> Client {
        let url = self.node(node).ws_url();
        Client::resume(&url, &self.token(user), self.encoding, resume).await.unwrap()
    }

    /// Connects Ada to one node and Bob to the other, as members of a new conversation that Ada owns.
    pub async fn members(&self, conversation: &str) -> (Client, Client) {
        let (mut ada, mut bob) = (self.connect(0, "ada").await, self.connect(1, "bob").await);
        ada.ask("create", json!({"conversation": conversation, "members": ["bob"]})).await;
        for client in [&mut ada, &mut bob] {
            client.event("member", |event| event["conversation"] == conversation).await;
        }
        (ada, bob)
    }

    /// Like [`members`](Self::members), but both have also joined and see each other online.
    pub async fn joined(&self, conversation: &str) -> (Client, Client) {
        let (mut ada, mut bob) = self.members(conversation).await;
        ada.join(conversation).await;
        bob.join(conversation).await;
        ada.event("presence", |event| event["user"] == "bob" && event["online"] == true).await;
        (ada, bob)
    }

    /// Returns an HTTP request to a node with a token.
    pub async fn http(&self, node: usize, token: &str, method: &str, path: &str) -> Response {
        let url = format!("{}{path}", self.node(node).http_url());
        Request::new(method, &url).bearer(token).send().await.unwrap()
    }
}

//! What a message costs as nodes are added: bytes that Redis sends, and publications that each node receives. Each conversation has a
//! member on two nodes.
//!
//! ```text
//! cargo run -p starling-costs --example nodes -- 2 4 6
//! ```
//!
//! `STARLING_BIN` names another program to measure.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Cluster;

/// Conversations. Each pair of neighbouring nodes has the same number of them, if the number of nodes divides this.
const CONVERSATIONS: usize = 24;
/// Messages that are counted.
const MESSAGES: usize = 3_000;
/// How long publications that are under way may take to arrive.
const SETTLE: Duration = Duration::from_secs(2);

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Bytes that Redis has sent.
    redis_output: f64,
    /// Publications that all nodes have received from Redis.
    received: f64,
    /// Of them, those about conversations that the receiving node does not know.
    unwanted: f64,
    /// Processor time of all nodes, seconds.
    cpu: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    println!(
        "nodes | Redis output, bytes/message | received, per node and message | unwanted | node CPU, µs/message"
    );
    for argument in std::env::args().skip(1) {
        let nodes: usize = argument.parse().context("the arguments are numbers of nodes")?;
        let counts = measure(nodes).await?;
        let messages = MESSAGES as f64;
        println!(
            "{nodes:>5} | {:>10.0} | {:>6.3} | {:>6.3} | {:>6.0}",
            counts.redis_output / messages,
            counts.received / messages / nodes as f64,
            counts.unwanted / messages / nodes as f64,
            counts.cpu / messages * 1e6,
        );
    }
    Ok(())
}

async fn measure(nodes: usize) -> Result<Counts> {
    let cluster = Cluster::builder(nodes).unlimited().start().await?;
    let mut users = Vec::new();
    for (index, node) in cluster.nodes().iter().enumerate() {
        let token = cluster.token(&format!("user-{index}"));
        users.push(Client::connect(&node.ws_url(), &token, Encoding::Json).await?);
    }
    for conversation in 0..CONVERSATIONS {
        let (one, other) = (conversation % nodes, (conversation + 1) % nodes);
        let name = format!("talk-{conversation}");
        users[one]
            .command("create", json!({"conversation": name, "members": [format!("user-{other}")]}))
            .await?;
        for user in [one, other] {
            users[user].command("join", json!({"conversation": name})).await?;
        }
    }
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (counts(&cluster).await?, Instant::now());
    for message in 0..MESSAGES {
        let conversation = message % CONVERSATIONS;
        let sent = json!({"conversation": format!("talk-{conversation}"), "key": format!("key-{message}"), "content": "x".repeat(200)});
        users[conversation % nodes].command("send", sent).await?;
        users[(conversation + 1) % nodes].wait_for_event("message").await?;
    }
    tokio::time::sleep(SETTLE).await;
    let (after, took) = (counts(&cluster).await?, began.elapsed());
    // What the nodes do by themselves in the same time.
    tokio::time::sleep(took).await;
    let idle = counts(&cluster).await?.minus(after);
    Ok(after.minus(before).minus(idle))
}

impl Counts {
    fn minus(self, other: Counts) -> Counts {
        Counts {
            redis_output: self.redis_output - other.redis_output,
            received: self.received - other.received,
            unwanted: self.unwanted - other.unwanted,
            cpu: self.cpu - other.cpu,
        }
    }
}

async fn counts(cluster: &Cluster) -> Result<Counts> {
    let info = cluster.redis()?.cli(&["INFO", "stats"]).await?.text();
    let redis_output = info
        .lines()
        .find_map(|line| line.trim().strip_prefix("total_net_output_bytes:")?.parse().ok())
        .context("Redis does not say how much it sent")?;
    let mut counts = Counts { redis_output, ..Counts::default() };
    for node in cluster.nodes() {
        counts.received += node.metric("starling_fanout_received_total", "").await?;
        counts.unwanted += node.metric("starling_fanout_unwanted_total", "").await?;
        counts.cpu += node.cpu_seconds()?;
    }
    Ok(counts)
}

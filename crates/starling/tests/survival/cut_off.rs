//! A single node is cut off: from Redis, so that it cannot publish, or from the database, so that it cannot write.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Cluster, Node};
use starling_testkit::proxy::Link;

use crate::TURN;
use crate::talk::{message, rest, say};

/// Number of messages sent while the node is cut off. None reveals a hole, since nobody else sends.
const SAID: u64 = 8;
/// Timeout for something that should arrive within two seconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// `drain_seconds` in this test.
const DRAIN: Duration = Duration::from_secs(2);
/// Time that a node may take after that on a busy machine: a process manager waits ten seconds longer than the drain.
const AFTER: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_at_a_node_that_is_cut_off_from_redis_alone_is_shown_on_the_others() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let link = Link::to(cluster.redis()?.address()).await?;
    let apart = Node::builder()
        .name("apart")
        .secret(cluster.node(0).secret())
        .redis(&link.through(cluster.redis_url()))
        .database(cluster.database_url())
        .unlimited()
        .start()
        .await?;
    let mut ada = Client::connect(&apart.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c", "members": ["bob", "cy"]})).await?;
    let mut readers = Vec::new();
    for (user, node, encoding) in [("bob", 0, Encoding::Json), ("cy", 1, Encoding::MessagePack)] {
        let url = cluster.node(node).ws_url();
        let mut reader = Client::connect(&url, &cluster.token(user), encoding).await?;
        reader.set_patience(PATIENCE);
        reader.command("join", json!({"conversation": "c"})).await?;
        readers.push(reader);
    }
    say(&mut ada, "c", "before").await?;
    for reader in &mut readers {
        ensure!(message(reader).await?.0 == 1);
    }

    link.pause();
    let mut slowest = Duration::ZERO;
    for seq in 2..=1 + SAID {
        ensure!(say(&mut ada, "c", "alone").await? == seq);
        let said = Instant::now();
        for reader in &mut readers {
            let shown = message(reader).await.with_context(|| format!("message {seq} was not shown"))?;
            ensure!(shown.0 == seq, "{shown:?} instead of {seq}");
        }
        slowest = slowest.max(said.elapsed());
    }
    println!("the slowest of {SAID} messages was shown everywhere {slowest:?} after its ok");

    link.resume();
    let last = say(&mut ada, "c", "after").await?;
    for reader in &mut readers {
        ensure!(message(reader).await?.0 == last);
        let again = rest(reader).await?;
        ensure!(again.is_empty(), "shown again: {again:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_database_and_redis_hang_ends_soon_after_its_drain() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(1).unlimited().start().await?;
    let redis = Link::to(cluster.redis()?.address()).await?;
    let database = Link::to(cluster.postgres()?.address()).await?;
    let node = Node::builder()
        .name("leaving")
        .secret(cluster.node(0).secret())
        .redis(&redis.through(cluster.redis_url()))
        .database(&database.through(cluster.database_url()))
        .env("STARLING_DRAIN_SECONDS", &DRAIN.as_secs().to_string())
        .unlimited()
        .start()
        .await?;
    let mut ada = Client::connect(&node.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c"})).await?;
    ada.command("join", json!({"conversation": "c"})).await?;
    database.pause();
    redis.pause();
    // A message waits for the database, and so will a last-seen time.
    ada.submit("send", json!({"conversation": "c", "key": "k", "content": "waits"})).await?;
    let told = Instant::now();
    node.begin_termination()?;
    let status = node.ended(DRAIN + AFTER).await?;
    println!("ended {:?} after SIGTERM, with {DRAIN:?} for the drain", told.elapsed());
    ensure!(status.success(), "{status}\n{}", node.log());
    Ok(())
}

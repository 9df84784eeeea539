//! A message costs in proportion to the nodes where somebody has joined, not to all nodes.

use std::ops::Range;

use anyhow::{Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Cluster;
use starling_testkit::redis::RedisCluster;
use starling_testkit::wait;

use crate::{SOON, TURN, database};

/// Messages that are counted.
const MESSAGES: u32 = 200;
/// Nodes. Two of them have somebody in the conversation.
const NODES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_sent_only_to_the_nodes_where_somebody_has_joined() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(NODES).unlimited().database(&database("interest").await?).start().await?;
    only_the_nodes_concerned_are_told(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_redis_cluster_too_a_message_is_sent_only_to_the_nodes_where_somebody_has_joined() -> Result<()>
{
    let _turn = TURN.lock().await;
    let redis = RedisCluster::start().await?;
    let database = database("interest_cluster").await?;
    let cluster = Cluster::builder(NODES).unlimited().redis(&redis.url()).database(&database).start().await?;
    only_the_nodes_concerned_are_told(&cluster).await
}

async fn only_the_nodes_concerned_are_told(cluster: &Cluster) -> Result<()> {
    let mut users = Vec::new();
    for (index, node) in cluster.nodes().iter().enumerate() {
        let token = cluster.token(&format!("user-{index}"));
        users.push(Client::connect(&node.ws_url(), &token, Encoding::Json).await?);
    }
    let members: Vec<String> = (1..NODES).map(|index| format!("user-{index}")).collect();
    users[0].command("create", json!({"conversation": "talk", "members": members})).await?;
    for user in &mut users[..2] {
        user.command("join", json!({"conversation": "talk"})).await?;
    }
    wait::until_true(SOON, "each node to know of what the others are interested in", async || {
        for node in cluster.nodes() {
            if node.metric("starling_interest_uncertain_nodes", "").await? > 0.0 {
                return Ok(false);
            }
        }
        let writer = cluster.node(0);
        Ok(writer.metric("starling_interest_known", "").await? == 1.0)
    })
    .await?;
    let before = unwanted(cluster).await?;
    send(&mut users[..2], 0..MESSAGES).await?;
    let [received, unwanted_now] = [received(cluster, 1).await?, unwanted(cluster).await?];
    ensure!(received >= f64::from(MESSAGES), "the control: the node of the reader received {received}");
    // A slow machine may keep a node silent for so long that it is sent everything for a moment.
    let more = unwanted_now - before;
    ensure!(more < f64::from(MESSAGES) / 4.0, "nodes without a reader received {more} publications");

    // Who joins now, on a node that was told nothing so far, misses nothing of what follows.
    for joined in 2..NODES {
        let from = MESSAGES * (joined as u32 - 1);
        let reply = users[joined].command("join", json!({"conversation": "talk"})).await?;
        ensure!(reply["head"] == json!(from), "{reply}");
        send(&mut users[..=joined], from..from + MESSAGES).await?;
    }
    Ok(())
}

/// Sends these messages as the first of these users, and waits until each of the others has them in order.
async fn send(users: &mut [Client], numbers: Range<u32>) -> Result<()> {
    for number in numbers.clone() {
        let message = json!({"conversation": "talk", "key": format!("key-{number}"), "content": "hello"});
        users[0].command("send", message).await?;
    }
    for (index, user) in users.iter_mut().enumerate().skip(1) {
        for number in numbers.clone() {
            let event = user.wait_for_event("message").await?;
            ensure!(event["seq"] == json!(number + 1), "user {index} got {event} instead of {}", number + 1);
        }
    }
    Ok(())
}

async fn received(cluster: &Cluster, node: usize) -> Result<f64> {
    cluster.node(node).metric("starling_fanout_received_total", "").await
}

/// The publications that nodes received about conversations that they do not know.
async fn unwanted(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for node in cluster.nodes() {
        sum += node.metric("starling_fanout_unwanted_total", "").await?;
    }
    Ok(sum)
}

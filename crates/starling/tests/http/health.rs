//! Health of a node, with and without its dependencies.

use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Cluster, Node};
use starling_testkit::wait::until_true;

use crate::{json_of, node};

const SOON: Duration = Duration::from_secs(20);

async fn health(node: &Node) -> Value {
    json_of(&node.get("/health").await.expect("an answer"), 200)
}

async fn ready(node: &Node) -> (u16, Value) {
    let response = node.get("/ready").await.expect("an answer");
    assert_eq!(response.header("retry-after").is_some(), response.status == 503);
    (response.status, response.json().expect("JSON"))
}

#[tokio::test]
async fn a_node_by_itself_is_well() {
    let node = node().await;
    let _socket =
        Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.expect("a socket");
    let shown = health(&node).await;
    assert_eq!((&shown["status"], &shown["node"]), (&json!("ok"), &json!(node.name())));
    assert_eq!(
        (&shown["connections"], &shown["sessions"], &shown["draining"]),
        (&json!(1), &json!(1), &json!(false))
    );
    assert_eq!(shown["redis"], json!({"status": "not_configured"}));
    assert_eq!(shown["database"]["status"], "up");
    assert!(shown["uptime_seconds"].is_u64() && shown["version"].is_string());
    let pools: Vec<&str> =
        shown["pools"].as_array().expect("pools").iter().filter_map(|pool| pool["name"].as_str()).collect();
    assert_eq!(pools, ["writer", "readers"]);
    assert_eq!(ready(&node).await, (200, json!({"ready": true, "reasons": []})));
}

#[tokio::test]
async fn a_node_that_drains_is_not_ready() {
    let node = Node::builder().unlimited().env("STARLING_DRAIN_SECONDS", "20").start().await.expect("a node");
    let _socket =
        Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.expect("a socket");
    node.begin_termination().expect("a signal");
    until_true(SOON, "the node to be unready", async || Ok(ready(&node).await.0 == 503))
        .await
        .expect("unready");
    assert_eq!(ready(&node).await, (503, json!({"ready": false, "reasons": ["draining"]})));
    assert_eq!(health(&node).await["draining"], true);
}

#[tokio::test]
async fn a_node_says_what_is_away_and_comes_back_by_itself() {
    let cluster = Cluster::builder(1).unlimited().start().await.expect("a cluster");
    let node = cluster.node(0);
    let well = json!({"connected": true, "subscribed": true, "hears": true});
    let shown = health(node).await;
    assert_eq!(
        (&shown["status"], &shown["redis"]["status"], &shown["redis"]["link"]),
        (&json!("ok"), &json!("up"), &well)
    );
    assert!(
        shown["pools"].as_array().is_some_and(|pools| pools.iter().any(|pool| pool["name"] == "primary")),
        "{shown}"
    );

    // Without its database a node is degraded but ready, because no other node does better.
    let postgres = cluster.postgres().expect("a PostgreSQL");
    postgres.stop().await.expect("stopped");
    until_true(SOON, "the database to be missed", async || Ok(health(node).await["status"] == "degraded"))
        .await
        .expect("missed");
    // A machine that stalls for a second makes the node deaf for a moment.
    until_true(SOON, "Redis to be up alone, and the node ready", async || {
        let shown = health(node).await;
        let database = matches!(shown["database"]["status"].as_str(), Some("down" | "timeout"));
        Ok(database && shown["redis"]["status"] == "up" && ready(node).await.0 == 200)
    })
    .await
    .expect("degraded");
    postgres.start_again().await.expect("started");
    until_true(SOON, "the database to be back", async || Ok(health(node).await["status"] == "ok"))
        .await
        .expect("back");

    // Without Redis it serves from the log, and no node does better.
    let redis = cluster.redis().expect("a Redis");
    redis.stop().expect("stopped");
    until_true(SOON, "the node to be degraded", async || {
        Ok(ready(node).await == (200, json!({"ready": true, "reasons": ["degraded"]})))
    })
    .await
    .expect("degraded");
    let shown = health(node).await;
    assert_eq!((&shown["status"], &shown["database"]["status"]), (&json!("degraded"), &json!("up")));
    assert_ne!(shown["redis"]["status"], "up");
    redis.resume().expect("resumed");
    until_true(SOON, "the node to hear again", async || Ok(ready(node).await.1["reasons"] == json!([])))
        .await
        .expect("heard");
    until_true(SOON, "the node to be well", async || Ok(health(node).await["status"] == "ok"))
        .await
        .expect("well");
}

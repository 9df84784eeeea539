//! The kit and the real program together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use serde_json::json;
use starling_testkit::balancer::Balancer;
use starling_testkit::client::{Client, Encoding, Log, RecordingClient, Verdict};
use starling_testkit::node::{Cluster, Node};
use starling_testkit::process::is_alive;

const LIMIT: Duration = Duration::from_secs(20);

/// What PostgreSQL holds, read past all nodes.
async fn truth(cluster: &Cluster) -> Log {
    let rows = "SELECT c.name, m.seq, m.id, m.sender, m.content FROM messages m \
                JOIN conversations c ON c.id = m.conversation_id";
    let mut log = Log::default();
    for row in cluster.postgres().unwrap().psql(rows).await.unwrap().lines() {
        let columns: Vec<&str> = row.split('|').collect();
        log.insert(columns[0], columns[1].parse().unwrap(), columns[2], columns[3], columns[4]);
    }
    log
}

#[tokio::test]
async fn users_go_on_through_a_killed_node_and_the_log_agrees() {
    let cluster = Cluster::builder(2).unlimited().start().await.unwrap();
    let urls = cluster.ws_urls();
    let mut ada = RecordingClient::connect(&urls[0], &cluster.token("ada"), Encoding::Json).await.unwrap();
    let mut bob =
        RecordingClient::connect(&urls[1], &cluster.token("bob"), Encoding::MessagePack).await.unwrap();
    ada.command("create", json!({"conversation": "talk", "members": ["bob"]})).await.unwrap();
    ada.join("talk").await.unwrap();
    bob.join("talk").await.unwrap();
    for n in 0..20 {
        ada.send("talk", &format!("before-{n}"), "hello").await.unwrap();
    }
    bob.listen_until("talk", 20, LIMIT).await.unwrap();

    cluster.node(0).kill().await.unwrap();
    let left = &urls[1..];
    for n in 0..20 {
        ada.send_surely(left, "talk", &format!("after-{n}"), "hello again", LIMIT).await.unwrap();
    }
    ada.listen_until("talk", 40, LIMIT).await.unwrap();
    bob.listen_until("talk", 40, LIMIT).await.unwrap();

    let log = truth(&cluster).await;
    let verdict: Verdict = [&ada, &bob].iter().map(|user| user.record().verdict(&log)).sum();
    assert!(verdict.is_clean() && log.faults() == 0 && log.messages() == 40, "{verdict}");
    assert_eq!((verdict.messages, verdict.acknowledged), (80, 40));
}

#[tokio::test]
async fn a_balancer_stands_before_nodes_and_all_end_with_their_values() {
    let cluster = Cluster::builder(2).env("STARLING_DRAIN_SECONDS", "2").start().await.unwrap();
    let addresses: Vec<_> = cluster.nodes().iter().map(Node::address).collect();
    let balancer = Balancer::start(&addresses).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client =
            Client::connect(&balancer.ws_url(), &cluster.token("ada"), Encoding::Json).await.unwrap();
        seen.insert(client.welcome()["node"].to_string());
        clients.push(client);
    }
    assert_eq!(seen.len(), 2, "least_conn spreads them: {seen:?}");
    let status = cluster.node(1).terminate(Duration::from_secs(45)).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let pids: Vec<u32> = cluster.nodes().iter().map(Node::pid).collect();
    drop(cluster);
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

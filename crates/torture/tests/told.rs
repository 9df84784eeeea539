//! Promise 15: nodes that are killed between a message and its delivery, in real processes, and a defect that must be noticed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;
use tokio_postgres::NoTls;

/// Longer than anything takes on a busy machine.
const SOON: Duration = Duration::from_secs(120);
/// Messages that are sent at once in each round.
const MESSAGES: usize = 200;
/// How many of them are acknowledged when the node is killed, while the others are under way.
const ACKNOWLEDGED: usize = 60;

/// Starts two nodes, perhaps with a defect.
async fn start(sabotage: &str) -> Cluster {
    Cluster::builder(2)
        .program(env!("CARGO_BIN_EXE_starling-sabotaged"))
        .unlimited()
        .env("STARLING_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("STARLING_SABOTAGE", sabotage)
        .start()
        .await
        .unwrap()
}

/// Adds a webhook that wants messages, and waits until both nodes know it.
async fn add_webhook(cluster: &Cluster, backend: &Backend) {
    let token = Token::of("ada").scope("webhooks").sign(cluster.node(0).secret());
    let url = format!("{}/v1/webhooks", cluster.node(0).http_url());
    let body = json!({"url": backend.url("/"), "events": ["message.created"]});
    let added = Request::new("POST", &url).bearer(&token).json(&body).send().await.unwrap();
    assert_eq!(added.status, 201, "{}", added.text());
    for node in cluster.nodes() {
        let knows = async || Ok(node.metric("starling_webhooks", "").await? == 1.0);
        until_true(SOON, "the node to know the webhook", knows).await.unwrap();
    }
}

/// Sends many messages through a node, and kills these nodes while they are under way. Returns the ids of those that were acknowledged.
async fn send_and_kill(node: &Node, killed: &[&Node], conversation: &str) -> BTreeSet<String> {
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.command("create", json!({"conversation": conversation})).await.unwrap();
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let message =
            json!({"conversation": conversation, "key": format!("{number}"), "content": format!("{number}")});
        sent.push(ada.submit("send", message).await.unwrap());
    }
    let mut acknowledged = BTreeSet::new();
    for (number, id) in sent.into_iter().enumerate() {
        if number == ACKNOWLEDGED {
            for killed in killed {
                killed.kill().await.unwrap();
            }
        }
        // What had arrived before the connection broke was acknowledged, too.
        let Ok(reply) = ada.reply(id).await else { break };
        acknowledged.insert(reply["id"].as_str().unwrap().to_owned());
    }
    assert!(acknowledged.len() >= ACKNOWLEDGED, "{}", acknowledged.len());
    acknowledged
}

/// Waits until nothing is left to tell, and returns the messages that were acknowledged and not told.
async fn untold(cluster: &Cluster, backend: &Backend, acknowledged: &BTreeSet<String>) -> BTreeSet<String> {
    let (client, connection) = tokio_postgres::connect(cluster.database_url(), NoTls).await.unwrap();
    // It ends with the client.
    tokio::spawn(connection);
    let left = "SELECT (SELECT count(*) FROM announced_messages) + (SELECT count(*) FROM webhook_deliveries WHERE state = 0)";
    let is_told = async || Ok(client.query_one(left, &[]).await?.try_get::<_, i64>(0)? == 0);
    until_true(SOON, "all that is noted to be told", is_told).await.unwrap();
    let told: BTreeSet<String> = backend.requests().iter().map(|request| request.signed[0].clone()).collect();
    acknowledged.difference(&told).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_that_was_acknowledged_is_told_although_nodes_are_killed() {
    let cluster = start("").await;
    let backend = Backend::answering(Answer::Status(200)).await.unwrap();
    add_webhook(&cluster, &backend).await;
    let [one, other] = [cluster.node(0), cluster.node(1)];
    let mut acknowledged = BTreeSet::new();
    // The node that has the messages, the other one, and both at once.
    let rounds: [(&Node, &[&Node]); 4] =
        [(one, &[one]), (one, &[other]), (other, &[one, other]), (other, &[other, one])];
    for (number, (node, killed)) in rounds.into_iter().enumerate() {
        acknowledged.extend(send_and_kill(node, killed, &format!("c{number}")).await);
        for killed in killed {
            killed.start_again().await.unwrap();
        }
    }
    let untold = untold(&cluster, &backend, &acknowledged).await;
    println!("{} acknowledged, {} untold", acknowledged.len(), untold.len());
    assert!(untold.is_empty(), "{} of {} are untold", untold.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_noted_after_its_commit_is_missed() {
    let cluster = start("tell-late").await;
    let backend = Backend::answering(Answer::Status(200)).await.unwrap();
    add_webhook(&cluster, &backend).await;
    let node = cluster.node(0);
    let acknowledged = send_and_kill(node, &[node], "c").await;
    let untold = untold(&cluster, &backend, &acknowledged).await;
    println!("{} acknowledged, {} untold", acknowledged.len(), untold.len());
    assert!(!untold.is_empty(), "the defect was not noticed");
}

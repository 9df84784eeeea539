//! Nodes that are killed between a message and its delivery.

use std::collections::BTreeSet;

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::Cluster;
use starling_testkit::token::Token;

use crate::place::{ALLOWED, SOON, Talk, json_of, message};

/// Messages that are sent before the node is killed.
const MESSAGES: usize = 30;

#[tokio::test]
async fn what_was_acknowledged_is_delivered_although_its_node_was_killed() {
    let mut cluster = Cluster::builder(2).unlimited().env(ALLOWED.0, ALLOWED.1).start().await.unwrap();
    let backend = Backend::answering(Answer::Status(200)).await.unwrap();
    let token = |scope: &str| Token::of("ada").scope(scope).sign(cluster.node(0).secret());
    let url = format!("{}/v1/webhooks", cluster.node(0).http_url());
    let body = json!({"url": backend.url("/"), "events": ["message.created"]});
    let added = Request::new("POST", &url).bearer(&token("webhooks")).json(&body).send().await.unwrap();
    json_of(&added, 201);
    let node = cluster.node(0);
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.ask("create", json!({"conversation": "c"})).await;
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        ids.push(ada.submit("send", message("c", &number.to_string())).await.unwrap());
    }
    let mut acknowledged = BTreeSet::new();
    for id in ids {
        acknowledged.insert(ada.reply(id).await.unwrap()["id"].as_str().unwrap().to_owned());
    }
    cluster.remove_node(0).kill().await.unwrap();
    // The other node announces and delivers what that one left.
    starling_testkit::wait::until_true(SOON, "all messages at the backend", async || {
        let came: BTreeSet<String> =
            backend.requests().iter().map(|request| request.signed[0].clone()).collect();
        Ok(acknowledged.is_subset(&came))
    })
    .await
    .unwrap();
}

//! Tenants whose backends keep many attempts to deliver waiting, and others beside them.

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Cluster, Node, SECRET};
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::place::{ALLOWED, Caller, SOON, Talk, json_of, message};

/// An attempt takes as long as it may, so that none ends by itself during the test.
const TIMEOUT: (&str, &str) = ("STARLING_WEBHOOK_TIMEOUT_SECONDS", "60");
/// More than would be needed to take all 64 places of a node, 8 each.
const WEBHOOKS: usize = 10;
/// How many messages wait at each of them.
const MESSAGES: usize = 10;

#[tokio::test]
async fn deliveries_of_a_tenant_arrive_while_all_backends_of_another_one_are_silent() {
    let alone = Node::builder().unlimited().env(ALLOWED.0, ALLOWED.1).env(TIMEOUT.0, TIMEOUT.1);
    let alone = alone.start().await.unwrap();
    let cluster = Cluster::builder(1).unlimited().env(ALLOWED.0, ALLOWED.1).env(TIMEOUT.0, TIMEOUT.1);
    let cluster = cluster.start().await.unwrap();
    for node in [&alone, cluster.node(0)] {
        beside_silent_backends(node).await;
    }
}

async fn beside_silent_backends(node: &Node) {
    let (silent, accepting) = (Answer::Silence, Answer::Status(204));
    let (silent, accepting) =
        (Backend::answering(silent).await.unwrap(), Backend::answering(accepting).await.unwrap());
    let app = Caller::at(node, "slow", "backend", "webhooks");
    let mut paths = Vec::new();
    for number in 0..WEBHOOKS {
        paths.push(add(&app, &silent.url(&format!("/{number}"))).await);
    }
    for path in &paths {
        json_of(&app.patch(path, &json!({"paused": true})).await, 200);
    }
    send(node, "slow", MESSAGES).await;
    for path in &paths {
        wait::until_true(SOON, "a backlog", async || {
            Ok(json_of(&app.get(path).await, 200)["waiting"] == MESSAGES)
        })
        .await
        .unwrap();
    }
    for path in &paths {
        json_of(&app.patch(path, &json!({"paused": false})).await, 200);
    }
    // As many as one tenant may have under way.
    silent.wait_for(SOON, 32).await.unwrap();

    add(&Caller::at(node, "quick", "backend", "webhooks"), &accepting.url("/")).await;
    send(node, "quick", 1).await;
    accepting.wait_for(SOON, 1).await.unwrap();
    for path in &paths {
        let list = json_of(&app.get(&format!("{path}/deliveries")).await, 200);
        let deliveries = list["deliveries"].as_array().unwrap();
        assert_eq!(deliveries.len(), MESSAGES);
        assert!(
            deliveries.iter().all(|delivery| delivery["attempts"] == 0),
            "the silent ones still hang: {list}"
        );
    }
    assert_eq!(silent.requests().len(), 32);
}

/// Adds a webhook that wants messages, and returns its path.
async fn add(app: &Caller, url: &str) -> String {
    let body = json!({"url": url, "events": ["message.created"]});
    let webhook = json_of(&app.post("/v1/webhooks", &body).await, 201);
    format!("/v1/webhooks/{}", webhook["webhook"].as_str().unwrap())
}

/// Sends so many messages into a conversation of a tenant.
async fn send(node: &Node, tenant: &str, count: usize) {
    let token = Token::of("ada").tenant(tenant).sign(SECRET);
    let mut ada = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
    ada.ask("create", json!({"conversation": "c"})).await;
    for number in 0..count {
        ada.ask("send", message("c", &number.to_string())).await;
    }
}

//! A node that ends with a panic reports it first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::error_service::ErrorService;
use starling_testkit::node::Node;

/// Limit for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_panic_that_ends_the_node_is_reported_without_what_its_text_quotes() {
    let service = ErrorService::start().await.unwrap();
    let node = Node::builder()
        .program(env!("CARGO_BIN_EXE_starling-sabotaged"))
        .env("STARLING_SABOTAGE", "panic")
        .env("SENTRY_DSN", &service.dsn());
    let node = node.start().await.unwrap();
    let token = node.token("ann");
    let mut ann = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
    ann.command("create", json!({"conversation": "tea"})).await.unwrap();
    let message = json!({"conversation": "tea", "key": "k", "content": "words-of-the-test"});
    ann.submit("send", message).await.unwrap();
    // It aborts.
    assert_eq!(node.ended(SOON).await.unwrap().code(), None, "{}", node.log());
    assert!(
        node.log().contains("words-of-the-test"),
        "the text of the panic quotes the message: {}",
        node.log()
    );
    let is_panic = |event: &serde_json::Value| event["level"] == "fatal";
    let panic = service.wait_for(SOON, "the panic", is_panic).await.unwrap();
    let exception = &panic.event["exception"]["values"][0];
    assert!(exception["type"].as_str().is_some_and(|kind| kind.contains("log.rs:")), "{exception}");
    let is_end = |event: &serde_json::Value| event["extra"]["task"].is_string();
    let end = service.wait_for(SOON, "the error that names the task", is_end).await.unwrap();
    assert_eq!((&end.event["level"], &end.event["server_name"]), (&json!(null), &json!(node.name())));
    for envelope in service.envelopes() {
        assert!(
            !envelope.text.contains("words-of-the-test") && !envelope.text.contains(&token),
            "{envelope:?}"
        );
    }
}

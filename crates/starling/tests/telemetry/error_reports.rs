//! Reports of errors: what they say, and what they never say.

use anyhow::Result;
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::error_service::ErrorService;
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::process::Signal;
use starling_testkit::wait::until_true;

use crate::SOON;

/// The text of the error that a bad configuration causes at SIGHUP.
const MESSAGE: &str = "the configuration is invalid; nothing was changed";
/// What is wrong with it, which only the log says.
const DETAIL: &str = "must stand in quotes";

fn node(service: &ErrorService) -> NodeBuilder {
    Node::builder()
        .arg("--config")
        .arg("starling.toml")
        .file("starling.toml", "log = \"info\"\n")
        .file("dsn", &format!("{}\n", service.dsn()))
        .env("SENTRY_DSN_FILE", "dsn")
}

/// Makes the node log an error.
async fn provoke(node: &Node) -> Result<()> {
    std::fs::write(node.folder().join("starling.toml"), "log = debug\n")?;
    node.signal(Signal::HUP)?;
    until_true(SOON, "the error in the log", async || Ok(node.log().contains(MESSAGE))).await
}

#[tokio::test]
async fn an_error_is_reported_with_its_place_and_nothing_of_users() {
    let service = ErrorService::start().await.unwrap();
    let node = node(&service).start().await.unwrap();
    let token = node.token("ann-of-the-test");
    let mut ann = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
    ann.command("create", json!({"conversation": "tea-of-the-test"})).await.unwrap();
    let message = json!({"conversation": "tea-of-the-test", "key": "k", "content": "words-of-the-test"});
    ann.command("send", message).await.unwrap();
    provoke(&node).await.unwrap();
    let report = service.wait_for(SOON, "the report", |event| event["message"] == MESSAGE).await.unwrap();
    let event = &report.event;
    // An event without a level is an error.
    let level = event["level"].as_str().unwrap_or("error");
    assert_eq!((level, &event["server_name"]), ("error", &json!(node.name())), "{event}");
    assert_eq!(event["release"], concat!("starling@", env!("CARGO_PKG_VERSION")), "{event}");
    assert_eq!(event["logger"], "starling::reload", "{event}");
    assert!(event["culprit"].as_str().is_some_and(|place| place.contains("reload.rs:")), "{event}");
    // The log says more.
    assert!(node.log().contains(DETAIL), "{}", node.log());
    let ticket = ann.welcome()["ticket"].as_str().expect("a ticket").to_owned();
    for envelope in service.envelopes() {
        for word in [&token, &ticket, node.secret(), "of-the-test", DETAIL] {
            assert!(!envelope.text.contains(word), "{word} is in {}", envelope.text);
        }
    }
    let sent = async || Ok(node.metric("starling_error_reports_total", "result=\"sent\"").await? >= 1.0);
    until_true(SOON, "the report to be counted", sent).await.unwrap();
}

#[tokio::test]
async fn a_service_that_does_not_answer_holds_nobody_up_and_without_an_address_nothing_is_reported() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://key@{}/7", silent.local_addr().unwrap());
    let service = ErrorService::start().await.unwrap();
    let stuck =
        node(&service).env("SENTRY_DSN_FILE", "").env("STARLING_SENTRY_DSN", &dsn).start().await.unwrap();
    let quiet = node(&service).env("SENTRY_DSN_FILE", "").start().await.unwrap();
    for node in [&stuck, &quiet] {
        provoke(node).await.unwrap();
        let mut ann = Client::connect(&node.ws_url(), &node.token("ann"), Encoding::Json).await.unwrap();
        ann.command("ping", json!({})).await.unwrap();
        assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0), "{}", node.log());
    }
    assert!(service.envelopes().is_empty(), "{:?}", service.envelopes());
}

#[tokio::test]
async fn an_address_that_can_not_be_used_ends_the_start_and_is_not_repeated() {
    let service = ErrorService::start().await.unwrap();
    let node =
        node(&service).file("dsn", "https://hush@errors.example").without_waiting().start().await.unwrap();
    assert_eq!(node.ended(SOON).await.unwrap().code(), Some(64), "{}", node.log());
    let log = node.log();
    assert!(log.contains("sentry_dsn: is not an address") && !log.contains("hush"), "{log}");
}

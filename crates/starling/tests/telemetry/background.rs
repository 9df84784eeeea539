//! The metrics of what happens in the background: jobs, webhooks, hooks.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::token::Token;

use crate::metrics::becomes;

/// A node that may call backends of the loopback.
fn node() -> NodeBuilder {
    Node::builder().unlimited().env("STARLING_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
}

/// Calls a node as the application, and returns the answer.
async fn call(node: &Node, method: &str, path: &str, body: Value) -> Result<Value> {
    let token = Token::of("backend").scope("admin").sign(node.secret());
    let request = Request::new(method, &format!("{}{path}", node.http_url())).bearer(&token).json(&body);
    let response = request.send().await?;
    ensure!(response.status < 300, "{method} {path}: {}: {}", response.status, response.text());
    if response.status == 204 { Ok(Value::Null) } else { response.json() }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_are_shown_and_those_of_a_paused_queue_wait_for_nobody() -> Result<()> {
    let node = node().start().await?;
    let oldest = "starling_jobs_oldest_ready_seconds";
    for _ in 0..2 {
        call(&node, "POST", "/v1/jobs", json!({ "queue": "mail", "payload": 1 })).await?;
    }
    becomes(&node, "starling_jobs", r#"state="ready""#, |jobs| jobs == 2.0).await?;
    becomes(&node, oldest, r#"queues="outside""#, |age| age > 0.0).await?;
    becomes(&node, oldest, r#"queues="internal""#, |age| age == 0.0).await?;
    call(&node, "POST", "/v1/queues/mail/pause", json!({})).await?;
    becomes(&node, oldest, "", |age| age == 0.0).await?;
    call(&node, "POST", "/v1/queues/mail/resume", json!({})).await?;
    becomes(&node, oldest, r#"queues="outside""#, |age| age > 0.0).await?;
    let taken = call(&node, "POST", "/v1/queues/mail/take", json!({ "wait_seconds": 30 })).await?;
    let job = &taken["jobs"][0];
    let path = format!("/v1/jobs/{}/fail", job["job"].as_str().unwrap_or_default());
    call(&node, "POST", &path, json!({ "lease": job["lease"], "error": "no", "retry": false })).await?;
    becomes(&node, "starling_job_attempts_total", r#"outcome="failed""#, |attempts| attempts == 1.0).await?;
    becomes(&node, "starling_jobs", r#"state="failed""#, |jobs| jobs == 1.0).await?;
    becomes(&node, "starling_jobs", r#"state="ready""#, |jobs| jobs == 1.0).await?;
    // Jobs may take an hour, and wait as long.
    for histogram in ["starling_job_wait_seconds_bucket", "starling_job_run_seconds_bucket"] {
        becomes(&node, histogram, r#"le="3600""#, |jobs| jobs == 1.0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_no_node_makes_is_shown_until_its_webhook_is_paused() -> Result<()> {
    let node = node().env("STARLING_ROLES", "gateway").start().await?;
    let backend = Backend::answering(Answer::Status(204)).await?;
    let webhook = json!({ "url": backend.url("/"), "events": ["*"] });
    let webhook = call(&node, "POST", "/v1/webhooks", webhook).await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({ "conversation": "tea" })).await?;
    for age in ["starling_webhook_oldest_due_seconds", "starling_webhook_oldest_waiting_seconds"] {
        becomes(&node, age, "", |age| age > 0.0).await?;
    }
    becomes(&node, "starling_webhooks_paused", "", |webhooks| webhooks == 0.0).await?;
    let id = webhook["webhook"].as_str().unwrap_or_default();
    call(&node, "PATCH", &format!("/v1/webhooks/{id}"), json!({ "paused": true })).await?;
    becomes(&node, "starling_webhooks_paused", r#"reason="wanted""#, |webhooks| webhooks == 1.0).await?;
    for age in ["starling_webhook_oldest_due_seconds", "starling_webhook_oldest_waiting_seconds"] {
        becomes(&node, age, "", |age| age == 0.0).await?;
    }
    ensure!(backend.requests().is_empty(), "this node makes no deliveries");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_is_shown_as_paused_for_that_reason() -> Result<()> {
    let node = node().env("STARLING_WEBHOOK_PAUSE_AFTER_SECONDS", "1").start().await?;
    let backend = Backend::answering(Answer::Status(500)).await?;
    call(&node, "POST", "/v1/webhooks", json!({ "url": backend.url("/"), "events": ["*"] })).await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({ "conversation": "tea" })).await?;
    becomes(&node, "starling_webhooks_paused", r#"reason="failed""#, |webhooks| webhooks == 1.0).await?;
    becomes(&node, "starling_webhook_attempts_total", r#"outcome="retried""#, |attempts| attempts >= 2.0)
        .await?;
    becomes(&node, "starling_webhook_oldest_waiting_seconds", "", |age| age == 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_of_a_hook_is_shown_as_open_until_another_backend_is_asked() -> Result<()> {
    let node = node().start().await?;
    let broken = Backend::answering(Answer::Status(503)).await?;
    let hook =
        |backend: &Backend| json!({ "url": backend.url("/"), "timeout_ms": 5000, "on_failure": "allow" });
    call(&node, "PUT", "/v1/hooks/publish", hook(&broken)).await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    for _ in 0..6 {
        ada.command("publish", json!({ "topic": "news", "data": 1 })).await?;
    }
    becomes(&node, "starling_hook_breakers_open", "", |breakers| breakers == 1.0).await?;
    becomes(&node, "starling_hook_questions_total", r#"outcome="failed""#, |questions| questions >= 5.0)
        .await?;
    let good = Backend::answering(Answer::Json(json!({ "allow": true }))).await?;
    call(&node, "PUT", "/v1/hooks/publish", hook(&good)).await?;
    becomes(&node, "starling_hook_breakers_open", "", |breakers| breakers == 0.0).await?;
    ada.command("publish", json!({ "topic": "news", "data": 1 })).await?;
    becomes(&node, "starling_hook_questions_total", r#"outcome="allowed""#, |questions| questions == 1.0)
        .await
}

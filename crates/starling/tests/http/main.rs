//! The HTTP API on real nodes: every call, its permissions, and its errors.

mod access;
mod conversations;
mod cors;
mod examples;
mod health;
mod hosts;
mod limits;
mod messages;
mod operate;
mod page;
mod transport;

use serde_json::Value;
use starling_testkit::http::{Request, Response};
use starling_testkit::node::Node;
use starling_testkit::token::Token;

/// Starts a single node without limits, which fast tests would exceed.
async fn node() -> Node {
    Node::builder().unlimited().start().await.expect("a node")
}

/// Returns a token of an administrator of the tenant `default`.
fn admin(node: &Node) -> String {
    Token::of("root").scope("admin").sign(node.secret())
}

/// Returns a request with a token.
fn request(node: &Node, token: &str, method: &str, path: &str) -> Request {
    Request::new(method, &format!("{}{path}", node.http_url())).bearer(token)
}

async fn call(node: &Node, token: &str, method: &str, path: &str) -> Response {
    request(node, token, method, path).send().await.expect("an answer")
}

async fn call_with(node: &Node, token: &str, method: &str, path: &str, body: &Value) -> Response {
    request(node, token, method, path).json(body).send().await.expect("an answer")
}

/// Returns the JSON of a response, which must have this status.
#[track_caller]
fn json_of(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.json().expect("JSON")
}

/// Checks an error response against the general rules.
#[track_caller]
fn refused(response: &Response, status: u16, code: &str) -> Value {
    let body = json_of(response, status);
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    let waits = matches!(code, "rate_limited" | "unavailable");
    assert_eq!(response.header("retry-after").is_some(), waits);
    assert_eq!(body["error"].get("retry_after_ms").is_some(), waits);
    assert_eq!(response.header("www-authenticate").is_some(), code == "unauthorized");
    body
}

#[track_caller]
fn done(response: &Response) {
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(response.body.is_empty());
}

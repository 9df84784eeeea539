//! Limits on requests per connection, per address behind a load balancer, and per user; and how large responses count.

use serde_json::{Value, json};
use starling_testkit::http::{Request, Response};
use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{call_with, json_of, refused};

/// Number of requests that exceeds the limit even on a very slow machine.
const MANY: usize = 1_000;

async fn node(settings: &[(&str, &str)]) -> Node {
    let node = settings.iter().fold(Node::builder(), |node, (name, value)| node.env(name, value));
    node.start().await.expect("a node")
}

/// Sends requests one after another on one connection; returns statuses and bodies.
async fn on_one_connection(node: &Node, token: &str, paths: &[&str]) -> Vec<(u16, Value)> {
    let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
    let mut answers = Vec::new();
    for path in paths {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let body_at = loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(stream.read_buf(&mut answer).await.expect("an answer") > 0, "the connection has ended");
        };
        let head = String::from_utf8_lossy(&answer[..body_at]).to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length: usize = header("content-length").expect("a length").parse().expect("a number");
        while answer.len() < body_at + length {
            assert!(stream.read_buf(&mut answer).await.expect("an answer") > 0, "the connection has ended");
        }
        let status = head[9..12].parse().expect("a status");
        assert_eq!(header("retry-after").is_some(), status == 429, "{head}");
        answers.push((status, serde_json::from_slice(&answer[body_at..]).expect("JSON")));
    }
    answers
}

fn first_refused(answers: &[(u16, Value)]) -> Option<usize> {
    let first = answers.iter().position(|(status, _)| *status != 200)?;
    let (status, body) = &answers[first];
    assert_eq!((*status, &body["error"]["code"]), (429, &json!("rate_limited")));
    assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{body}");
    Some(first)
}

#[tokio::test]
async fn requests_of_one_connection_are_limited_per_second() {
    let node = node(&[("STARLING_LIMIT_CONNECTION_REQUESTS_PER_SECOND", "20")]).await;
    let ada = node.token("ada");
    let answers = on_one_connection(&node, &ada, &["/v1/conversations"; MANY]).await;
    let first = first_refused(&answers).expect("one is too many");
    assert!(first >= 20, "a burst of a second is allowed, not {first}");
    // Another connection has its own allowance.
    assert_eq!(first_refused(&on_one_connection(&node, &ada, &["/v1/conversations"; 20]).await), None);
    let limited = node.metric("starling_limited_total", "limit=\"connection_requests\"").await;
    assert!(limited.expect("a metric") >= 1.0);
}

#[tokio::test]
async fn a_large_answer_counts_for_several() {
    let node = node(&[("STARLING_LIMIT_CONNECTION_REQUESTS_PER_SECOND", "2")]).await;
    let ada = node.token("ada");
    json_of(&call_with(&node, &ada, "POST", "/v1/conversations", &json!({"conversation": "tea"})).await, 201);
    let path = "/v1/conversations/tea/messages";
    for n in 0..16 {
        let message = json!({"key": n.to_string(), "content": "x".repeat(60_000)});
        json_of(&call_with(&node, &ada, "POST", path, &message).await, 201);
    }
    // Almost 1 MiB, which counts as 59 requests; two a second are allowed.
    let answers = on_one_connection(&node, &ada, &[path, "/v1/conversations"]).await;
    assert_eq!(first_refused(&answers), Some(1));
    let away = answers[1].1["error"]["retry_after_ms"].as_u64().expect("a time");
    assert!((1_000..=30_000).contains(&away), "{away} ms");
}

#[tokio::test]
async fn requests_of_one_user_are_limited_over_all_connections() {
    let node = node(&[("STARLING_LIMIT_USER_REQUESTS_PER_SECOND", "5")]).await;
    let (ada, bob) = (node.token("ada"), node.token("bob"));
    let list = async |token: &str| -> Response {
        let request = Request::new("GET", &format!("{}/v1/conversations", node.http_url()));
        request.bearer(token).send().await.expect("an answer")
    };
    let mut taken = 0;
    let answer = loop {
        let answer = list(&ada).await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < MANY, "no limit");
    };
    refused(&answer, 429, "rate_limited");
    assert!(answer.header("retry-after").is_some() && taken >= 5, "{taken}");
    assert_eq!(list(&bob).await.status, 200, "others are served");
    assert_eq!(node.get("/ready").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn behind_a_load_balancer_requests_are_limited_for_each_address_that_it_speaks_for() {
    let limit = ("STARLING_LIMIT_CONNECTION_REQUESTS_PER_SECOND", "5");
    let node = node(&[limit, ("STARLING_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let from = async |address: &str| -> Response {
        let request = Request::new("GET", &format!("{}/openapi.json", node.http_url()));
        request.header("x-forwarded-for", address).send().await.expect("an answer")
    };
    let mut taken = 0;
    let answer = loop {
        let answer = from("203.0.113.1").await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < MANY, "no limit");
    };
    refused(&answer, 429, "rate_limited");
    assert_eq!(from("203.0.113.2").await.status, 200, "others are served");
}

//! Rules for all calls: unknown paths, `HEAD`, bodies, compression.

use std::time::Duration;

use serde_json::json;
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{call, call_with, json_of, node, refused, request};

#[tokio::test]
async fn unknown_paths_are_told_in_json() {
    let node = node().await;
    let ada = node.token("ada");
    for path in [
        "/nothing",
        "/v1",
        "/v1/",
        "/v2/conversations",
        "/v1/conversations/",
        "/console/nothing.js",
        "/console/../x",
    ] {
        refused(&call(&node, &ada, "GET", path).await, 404, "not_found");
        refused(&node.get(path).await.expect("an answer"), 404, "not_found");
    }
    refused(&call(&node, &ada, "POST", "/v1/nothing").await, 404, "not_found");
    let response = call(&node, &ada, "DELETE", "/v1/conversations").await;
    refused(&response, 405, "bad_request");
    let mut allowed: Vec<&str> = response.header("allow").expect("Allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    let response = call(&node, &ada, "POST", "/v1/ws").await;
    refused(&response, 405, "bad_request");
    assert_eq!(response.header("allow"), Some("GET"), "a WebSocket begins with GET");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let node = node().await;
    let ada = node.token("ada");
    for path in ["/v1/conversations", "/health", "/ready", "/", "/openapi.json"] {
        let get = call(&node, &ada, "GET", path).await;
        let answer =
            raw(&node, &format!("HEAD {path} HTTP/1.1\r\nauthorization: Bearer {ada}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{path}: {answer}");
        let content_type = get.header("content-type").expect("a type");
        assert!(answer.contains(&format!("content-type: {content_type}\r\n")), "{path}: {answer}");
    }
    let answer = raw(&node, "HEAD /v1/conversations HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

/// Sends these bytes and returns the response up to the end of the connection.
async fn raw(node: &Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
    let request = request.replacen("\r\n", "\r\nhost: x\r\nconnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await;
    read.expect("in time").expect("an answer");
    answer
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let node = node().await;
    let ada = node.token("ada");
    for body in [
        &b""[..],
        b"{",
        b"nonsense",
        b"{\"title\": \"a\"} {}",
        b"\xff\xfe",
        b"{\"title\": \"\xff\"}",
        b"[[[[",
    ] {
        let response =
            request(&node, &ada, "POST", "/v1/conversations").body(body).send().await.expect("an answer");
        refused(&response, 400, "bad_request");
    }
    let deep = format!("{{\"metadata\": {{\"a\": {}{}}}}}", "[".repeat(2000), "]".repeat(2000));
    let response =
        request(&node, &ada, "POST", "/v1/conversations").body(deep).send().await.expect("an answer");
    refused(&response, 400, "bad_request");
}

#[tokio::test]
async fn a_body_is_taken_up_to_its_limit() {
    let node = node().await;
    let ada = node.token("ada");
    let padded = |bytes: usize| {
        let object = "{\"conversation\": \"tea\"}";
        [object, &" ".repeat(bytes - object.len())].concat()
    };
    let fits = request(&node, &ada, "POST", "/v1/conversations").body(padded(256 * 1024)).send().await;
    json_of(&fits.expect("an answer"), 201);
    for bytes in [256 * 1024 + 1, 1024 * 1024] {
        let response = request(&node, &ada, "POST", "/v1/conversations").body(padded(bytes)).send().await;
        refused(&response.expect("an answer"), 413, "too_large");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let node = node().await;
    let head = "POST /v1/conversations HTTP/1.1\r\ncontent-length: 10\r\nauthorization: Bearer ";
    let answer = raw(&node, &format!("{head}{}\r\n\r\n{{", node.token("ada"))).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"bad_request\""), "{answer}");
    // The node continues.
    assert_eq!(node.get("/health").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let node = node().await;
    let ada = node.token("ada");
    json_of(&call_with(&node, &ada, "POST", "/v1/conversations", &json!({"conversation": "tea"})).await, 201);
    let path = "/v1/conversations/tea/messages";
    let plain = call(&node, &ada, "GET", path).await;
    assert!(plain.body.len() < 1024 && encoded(&node, &ada, path, "gzip, br").await.0.is_none());

    let message = json!({"key": "k", "content": "all work and no play ".repeat(200)});
    json_of(&call_with(&node, &ada, "POST", path, &message).await, 201);
    let plain = call(&node, &ada, "GET", path).await;
    assert_eq!(plain.header("content-encoding"), None);
    for (accepted, wanted) in
        [("gzip", Some("gzip")), ("br", Some("br")), ("gzip, br", Some("br")), ("deflate", None), ("", None)]
    {
        let (encoding, bytes) = encoded(&node, &ada, path, accepted).await;
        assert_eq!(encoding.as_deref(), wanted, "{accepted}");
        assert_eq!(bytes < plain.body.len() / 4, wanted.is_some(), "{accepted}: {bytes}");
    }
    for encoding in ["gzip", "br"] {
        assert_eq!(unpacked_by_curl(&node, &ada, path, encoding).await, plain.body, "{encoding}");
    }
    // Large responses are compressed as a whole, on other threads, so their length is known.
    let message = json!({"key": "long", "content": "all work and no play ".repeat(3_000)});
    json_of(&call_with(&node, &ada, "POST", path, &message).await, 201);
    let plain = call(&node, &ada, "GET", path).await;
    for encoding in ["gzip", "br"] {
        let packed = request(&node, &ada, "GET", path).header("accept-encoding", encoding).send().await;
        let packed = packed.expect("an answer");
        assert_eq!(packed.header("content-encoding"), Some(encoding));
        assert_eq!(packed.header("content-length"), Some(packed.body.len().to_string().as_str()));
        assert!(packed.body.len() < plain.body.len() / 10, "{encoding}: {} bytes", packed.body.len());
        assert_eq!(unpacked_by_curl(&node, &ada, path, encoding).await, plain.body, "{encoding}");
    }
}

async fn encoded(node: &Node, token: &str, path: &str, accepted: &str) -> (Option<String>, usize) {
    let request: Request = request(node, token, "GET", path).header("accept-encoding", accepted);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status, 200);
    (response.header("content-encoding").map(str::to_owned), response.body.len())
}

async fn unpacked_by_curl(node: &Node, token: &str, path: &str, encoding: &str) -> Vec<u8> {
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "--compressed", "-H", &format!("Authorization: Bearer {token}")])
        .args(["-H", &format!("Accept-Encoding: {encoding}"), &format!("{}{path}", node.http_url())])
        .output()
        .await
        .expect("curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

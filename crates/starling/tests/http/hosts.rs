//! Requests without a `Host`, or with two.

use std::time::Duration;

use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node;

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Returns the first line of the response to this head, and what follows it immediately.
async fn answer(node: &Node, head: &str) -> String {
    let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
    stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut some)).await;
        match read.expect("in time").expect("an answer") {
            0 => break,
            length => answer.extend_from_slice(&some[..length]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn has_status(answer: &str, status: u16, what: &str) {
    let line = answer.split("\r\n").next().unwrap_or_default();
    assert!(line.split(' ').nth(1) == Some(status.to_string().as_str()), "{what}: {answer}");
}

/// `Host` lines that HTTP/1.1 does not allow.
const BAD_HOSTS: [&str; 12] = [
    "",
    "host: a\r\nhost: a\r\n",
    "host: a\r\nHost: b\r\n",
    "host: a b\r\n",
    "host: a/b\r\n",
    "host: http://a\r\n",
    "host: user@a\r\n",
    "host: a:port\r\n",
    "host: a:99999\r\n",
    "host: [::1\r\n",
    "host: ::1\r\n",
    "host: a\u{e4}\r\n",
];

#[tokio::test]
async fn an_upgrade_says_whom_it_is_for() {
    let node = node().await;
    for host in
        ["host: a\r\n", "Host: a:80\r\n", "host:  [::1]:8080 \r\n", "host: 10.0.0.1\r\n", "host: chat_1\r\n"]
    {
        has_status(&answer(&node, &format!("GET /v1/ws HTTP/1.1\r\n{host}{UPGRADE}")).await, 101, host);
    }
    for host in BAD_HOSTS.into_iter().chain(["host:\r\n", "host: :80\r\n"]) {
        let refused = answer(&node, &format!("GET /v1/ws HTTP/1.1\r\n{host}{UPGRADE}")).await;
        has_status(&refused, 400, host);
        assert!(refused.contains("bad_request") && refused.contains("Host"), "{host}: {refused}");
    }
    for host in ["", "host: a\r\n", "host: a\r\nhost: a\r\n"] {
        has_status(&answer(&node, &format!("GET /v1/ws HTTP/1.0\r\n{host}{UPGRADE}")).await, 400, "HTTP/1.0");
    }
}

#[tokio::test]
async fn a_call_says_whom_it_is_for_unless_it_is_as_old_as_http_1_0() {
    let node = node().await;
    for host in BAD_HOSTS {
        let refused = answer(&node, &format!("GET /health HTTP/1.1\r\n{host}")).await;
        has_status(&refused, 400, host);
        assert!(refused.contains("bad_request"), "{host}: {refused}");
    }
    for head in [
        "GET /health HTTP/1.1\r\nhost: a\r\n",
        // The header may be empty.
        "GET /health HTTP/1.1\r\nhost:\r\n",
        "GET http://other.example/health HTTP/1.1\r\nhost: a\r\n",
        // The default check of HAProxy.
        "GET /ready HTTP/1.0\r\n",
        "GET /ready HTTP/1.0\r\nhost: a\r\n",
    ] {
        has_status(&answer(&node, head).await, 200, head);
    }
    for head in ["GET /ready HTTP/1.0\r\nhost: a\r\nhost: b\r\n", "GET /ready HTTP/1.0\r\nhost: a b\r\n"] {
        has_status(&answer(&node, head).await, 400, head);
    }
}

#[tokio::test]
async fn two_origins_open_no_socket() {
    let node =
        Node::builder().unlimited().env("STARLING_ALLOWED_ORIGINS", "*").start().await.expect("a node");
    let with = |origins: &str| format!("GET /v1/ws HTTP/1.1\r\nhost: a\r\n{UPGRADE}{origins}");
    has_status(&answer(&node, &with("origin: https://a\r\n")).await, 101, "one");
    has_status(&answer(&node, &with("origin: https://a\r\norigin: https://b\r\n")).await, 400, "two");
    has_status(&answer(&node, &with("origin: https://a\r\norigin: https://a\r\n")).await, 400, "two alike");
}

#[tokio::test]
async fn a_default_port_is_no_port_for_a_page_of_the_same_host() {
    let node = node().await;
    let status = async |host: &str, origin: &str| {
        let head = format!("GET /v1/ws HTTP/1.1\r\nhost: {host}\r\n{UPGRADE}origin: {origin}\r\n");
        answer(&node, &head).await.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok())
    };
    for (host, origin) in [
        ("chat.example", "https://chat.example"),
        ("chat.example:443", "https://chat.example"),
        ("chat.example:80", "http://chat.example"),
        ("chat.example", "https://chat.example:443"),
        ("CHAT.example", "https://chat.example"),
    ] {
        assert_eq!(status(host, origin).await, Some(101), "{origin} at {host}");
    }
    for (host, origin) in [
        ("chat.example:8080", "https://chat.example"),
        ("chat.example", "https://chat.example:8443"),
        ("chat.example", "https://evil.example"),
        ("chat.example", "null"),
    ] {
        assert_eq!(status(host, origin).await, Some(403), "{origin} at {host}");
    }
}

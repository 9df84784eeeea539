//! Requests that two servers would read differently, endless heads, and paths that lead outside.

use starling_testkit::node::Node;

use crate::wire::{exchange, status};
use crate::witness::Witness;
use crate::{Memory, TURN, mib};

async fn node() -> Node {
    Node::builder().unlimited().start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_length_is_in_doubt_is_refused_and_nothing_behind_it_is_answered() {
    let _turn = TURN.lock().await;
    let node = node().await;
    let witness = Witness::of(&node).await;
    // If it were answered, the response would be 200.
    let hidden = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let length = hidden.len();
    for (what, headers) in [
        ("two lengths", format!("content-length: 0\r\ncontent-length: {length}\r\n")),
        ("a list of lengths", format!("content-length: 0, {length}\r\n")),
        ("a length with a sign", format!("content-length: +{length}\r\n")),
        ("a negative length", "content-length: -1\r\n".to_owned()),
        ("a length in hexadecimal", "content-length: 0x10\r\n".to_owned()),
        ("a length beyond all numbers", "content-length: 99999999999999999999999\r\n".to_owned()),
        ("an empty length", "content-length:\r\n".to_owned()),
        ("chunked is not the last", "transfer-encoding: chunked, identity\r\n".to_owned()),
        ("an unknown encoding", "transfer-encoding: cow\r\n".to_owned()),
        ("space before the colon", format!("content-length : {length}\r\n")),
        ("a folded line", format!("content-length:\r\n {length}\r\n")),
        ("a name with a space", "content length: 5\r\n".to_owned()),
        ("a NUL in a value", "x: a\0b\r\n".to_owned()),
        ("a lone CR in a value", "x: a\rcontent-length: 5\r\n".to_owned()),
    ] {
        let request = format!("POST /v1/conversations HTTP/1.1\r\nhost: x\r\n{headers}\r\n{hidden}");
        let answer = exchange(&node, &request).await;
        if !answer.is_empty() {
            assert!((400..=501).contains(&status(&answer)), "{what}: {answer}");
        }
        assert!(!answer.contains("uptime_seconds"), "{what}: what was hidden was answered: {answer}");
    }
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_never_makes_two_requests_of_one() {
    let _turn = TURN.lock().await;
    let node = node().await;
    // By the length, the body has five bytes and a request follows. By the chunks, the body
    // ends after the first line, and a request follows. RFC 9112, section 6.3: the chunks count, and the connection ends.
    let hidden = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for (what, headers, body) in [
        (
            "length and chunks",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "chunks and length",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "chunked twice",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        ("chunks in disguise", "transfer-encoding: xchunked\r\ncontent-length: 0\r\n", hidden.to_owned()),
    ] {
        let answer =
            exchange(&node, format!("POST /v1/conversations HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}"))
                .await;
        assert!(answer.is_empty() || status(&answer) >= 400, "{what}: {answer}");
        assert!(!answer.contains("uptime_seconds"), "{what}: what was hidden was answered: {answer}");
    }
    // A chunk whose size is not a number, or is too large.
    for size in ["x", "-1", "ffffffffffffffffff", "0x5", " 5"] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n{hidden}");
        let head = format!(
            "POST /v1/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n",
            node.token("ada")
        );
        let answer = exchange(&node, format!("{head}transfer-encoding: chunked\r\n\r\n{body}")).await;
        assert!(answer.is_empty() || status(&answer) >= 400, "{size}: {answer}");
        assert!(!answer.contains("uptime_seconds"), "{size}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_and_queries_without_end_are_refused() {
    let _turn = TURN.lock().await;
    let node = node().await;
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let many: String = (0..1_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let (long, same) = ("y".repeat(200_000), "cookie: a=b\r\n".repeat(20_000));
    for _ in 0..20 {
        for (what, request) in [
            ("a thousand headers", format!("GET /ready HTTP/1.1\r\nhost: x\r\n{many}\r\n")),
            ("one header twenty thousand times", format!("GET /ready HTTP/1.1\r\nhost: x\r\n{same}\r\n")),
            ("a header of 200 KB", format!("GET /ready HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n")),
            ("a header's name of 200 KB", format!("GET /ready HTTP/1.1\r\nhost: x\r\n{long}: x\r\n\r\n")),
            ("a path of 200 KB", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n")),
            ("a query of 200 KB", format!("GET /v1/conversations?cursor={long} HTTP/1.1\r\nhost: x\r\n\r\n")),
            ("a method of 200 KB", format!("{long} / HTTP/1.1\r\nhost: x\r\n\r\n")),
        ] {
            let answer = exchange(&node, request).await;
            // With so much unread data, the reset may overtake the response.
            assert!(answer.is_empty() || (400..500).contains(&status(&answer)), "{what}: {answer}");
        }
    }
    // A query that fits into a head and consists of parameters only.
    let parameters = "limit=1&".repeat(3_000);
    let head = format!("host: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n", node.token("ada"));
    let answer = exchange(&node, format!("GET /v1/conversations?{parameters} HTTP/1.1\r\n{head}\r\n")).await;
    assert_eq!(status(&answer), 400, "{answer}");
    memory.grew_at_most(&node, mib(24), "floods of headers");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_to_a_file_that_is_not_the_consoles() {
    let _turn = TURN.lock().await;
    let node = node().await;
    for path in [
        "/console/../../../../etc/passwd",
        "/console/..%2f..%2f..%2fetc%2fpasswd",
        "/console/%2e%2e/%2e%2e/etc/passwd",
        "/console/..%5c..%5cetc%5cpasswd",
        "/console/....//....//etc/passwd",
        "/console//etc/passwd",
        "/console/%2fetc%2fpasswd",
        "/console/index.html%00.js",
        "/console/..%c0%af..%c0%afetc/passwd",
        "/console/starling.db",
        "/console/../data/starling.db",
        "/console/%2e%2e%2fdata%2fstarling.secret",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/.git/config",
        "/data/starling.secret",
        "/starling.js/../data/starling.secret",
        "file:///etc/passwd",
        "http://127.0.0.1/console/../data/starling.secret",
    ] {
        let answer =
            exchange(&node, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!([400, 404].contains(&status(&answer)), "{path}: {answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(!body.contains("root:") && !body.contains("SQLite") && body.len() < 500, "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_lines_in_names_make_no_headers_and_no_lines_of_logs() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().env("RUST_LOG", "debug").start().await.unwrap();
    let ada = format!("host: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n", node.token("ada"));
    let injected = "%0d%0ax-injected:%20yes%0d%0a%0d%0a";
    for (method, path) in [
        ("GET", format!("/v1/conversations/c{injected}")),
        ("GET", format!("/v1/conversations/c/messages?before={injected}")),
        ("GET", format!("/v1/users/bob{injected}/presence")),
        ("GET", format!("/v1/sessions?user=bob{injected}")),
        ("PUT", format!("/v1/conversations/c/members/{injected}")),
        ("GET", format!("/console/{injected}")),
        ("GET", format!("/{injected}")),
        ("GET", format!("/v1/conversations?cursor={injected}")),
    ] {
        let answer = exchange(&node, format!("{method} {path} HTTP/1.1\r\n{ada}\r\n")).await;
        assert!((400..500).contains(&status(&answer)), "{path}: {answer}");
        assert!(!answer.to_lowercase().contains("\nx-injected"), "{path}: {answer}");
    }
    // Unescaped ones are not valid requests.
    let answer = exchange(&node, format!("GET /v1/conversations/a\r\nb HTTP/1.1\r\n{ada}\r\n")).await;
    assert!(answer.is_empty() || status(&answer) == 400, "{answer}");
    assert!(
        !node.log().lines().any(|line| line.trim_start().starts_with("x-injected")),
        "a line of the log was forged"
    );
}

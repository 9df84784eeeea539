//! Floods: endless fragments, pings without reading, responses that nobody reads.

use std::time::Duration;

use serde_json::json;
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::wait;
use tokio::io::AsyncWriteExt;

use crate::wire::{CONTINUATION, FIN, PING, Raw, TEXT, connect_from, frame};
use crate::witness::Witness;
use crate::{Memory, TURN, files, mib};

/// A flood has ended if the node has not accepted more for this long.
const STUCK: Duration = Duration::from_secs(2);
/// Requests a page that [`fill`] has made.
const HISTORY: &[u8] = br#"{"id":2,"op":"history","conversation":"witnessed","limit":200}"#;
/// More pages than the kernels buffer.
const PAGES: usize = 50;
/// Time after which the node must have given up a response that nobody reads: four times its timeout.
const GIVEN_UP: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn fragments_without_end_close_with_1009_at_the_limit() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    for size in [1, 1_000, 60_000] {
        let mut raw = Raw::connected(&node, "mallory", "").await;
        raw.send(&frame(TEXT, b"{")).await.unwrap();
        let (part, mut sent) = (frame(CONTINUATION, &vec![b' '; size]).repeat(1 + 20_000 / size), 0);
        // Sixteen times the limit of a message.
        while sent < 16 * 128 * 1024 && raw.send(&part).await.is_ok() {
            sent += size * (1 + 20_000 / size);
        }
        // If more data was in flight, the reset may overtake the close frame.
        let code = raw.close_code().await;
        assert!(matches!(code, Some(1009) | None), "{size}: {code:?}");
        assert!(sent < 16 * 128 * 1024 || code == Some(1009), "{size}: {sent} bytes were taken");
    }
    memory.grew_at_most(&node, mib(16), "endless fragments");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_fragments_without_end_cost_no_memory() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let mut raw = Raw::connected(&node, "mallory", "").await;
    raw.send(&frame(TEXT, b"")).await.unwrap();
    let part = frame(CONTINUATION, b"").repeat(10_000);
    for _ in 0..100 {
        if raw.send(&part).await.is_err() {
            break;
        }
    }
    memory.grew_at_most(&node, mib(8), "a million empty fragments");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_one_who_does_not_read_pile_up_nowhere() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let pings = frame(FIN | PING, &[b'p'; 125]).repeat(1_000);
    let mut floods = Vec::new();
    for n in 0..20 {
        floods.push(Raw::connected(&node, &format!("mallory{n}"), "").await);
    }
    let mut taken = 0;
    for raw in &mut floods {
        // 64 MiB each, if the node accepted them.
        for _ in 0..512 {
            if !raw.send_within(&pings, STUCK).await {
                break;
            }
            taken += pings.len();
        }
    }
    println!("{} MiB of pings were taken of 20 sockets", taken >> 20);
    memory.grew_at_most(&node, mib(48), "pings without reading");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_who_does_not_read_pile_up_nowhere() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    fill(&node).await;
    let memory = Memory::of(&node);
    let history = frame(FIN | TEXT, HISTORY).repeat(200);
    let mut floods = Vec::new();
    for _ in 0..20 {
        floods.push(Raw::connected(&node, "mallory", "").await);
    }
    for raw in &mut floods {
        for _ in 0..50 {
            if !raw.send_within(&history, Duration::from_millis(200)).await {
                break;
            }
        }
    }
    // A response has up to 1 MiB, and 20 connections asked for thousands.
    memory.grew_at_most(&node, mib(160), "answers that nobody takes");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_http_that_nobody_takes_are_given_up() {
    let _turn = TURN.lock().await;
    // A client that does not read is also silent, but this test is not about that.
    let node = Node::builder().unlimited().env("STARLING_HEARTBEAT_SECONDS", "300").start().await.unwrap();
    let witness = Witness::of(&node).await;
    fill(&node).await;
    let memory = Memory::of(&node);
    let request = format!(
        "GET /v1/conversations/witnessed/messages?limit=200 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        node.token("mallory")
    );
    // A WebSocket may stall for longer, because its outbox is bounded.
    let mut resting = Raw::connected(&node, "mallory", "").await;
    resting.send(&frame(FIN | TEXT, HISTORY).repeat(PAGES)).await.unwrap();
    let before = files(&node);
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut stream = connect_from(&node, 3).await.unwrap();
        // Pipelined requests, none of whose responses is read.
        stream.write_all(request.repeat(20).as_bytes()).await.unwrap();
        held.push(stream);
    }
    assert_eq!(node.get("/health").await.unwrap().status, 200);
    memory.grew_at_most(&node, mib(192), "50 connections that take no answer");
    // The node gives up on them, although their kernels still answer every probe.
    wait::until_true(GIVEN_UP, "their end", async || Ok(files(&node) < before + 10)).await.unwrap();
    drop(held);
    // Pages are shorter for a client that has not read for so long, but it still gets pages.
    for _ in 0..PAGES {
        let (opcode, page) = resting.next().await.expect("a page, after all");
        assert!(opcode == TEXT && page.len() > 60_000, "{} bytes", page.len());
    }
    witness.was_served().await;
}

/// Creates a conversation of `mallory` whose newest page has 1 MiB.
async fn fill(node: &Node) {
    let url = format!("{}/v1/conversations", node.http_url());
    let token = node.token("mallory");
    let create = json!({"conversation": "witnessed"});
    assert_eq!(Request::new("POST", &url).bearer(&token).json(&create).send().await.unwrap().status, 201);
    for n in 0..20 {
        let message = json!({"key": format!("k{n}"), "content": "x".repeat(60_000)});
        let post = Request::new("POST", &format!("{url}/witnessed/messages")).bearer(&token).json(&message);
        assert_eq!(post.send().await.unwrap().status, 201);
    }
}

//! Clients that read slowly, and clients that only seem to read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::wire::{FIN, PING, Raw, TEXT, frame};
use crate::witness::Witness;
use crate::{SOON, TURN};

/// Interval of the node's pings in seconds. A client is considered gone after twice that.
const HEARTBEAT: &str = "2";
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Bytes that the slow client reads per second. In two heartbeats it reads less than half of its page.
const BYTES_PER_SECOND: usize = 24_000;
/// Number of messages, and their size in bytes.
const MESSAGES: u64 = 7;
const CONTENT_BYTES: usize = 50_000;
const PONG: u8 = 0xa;

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_but_steadily_is_not_silent_and_is_given_shorter_pages() {
    let _turn = TURN.lock().await;
    let node =
        Node::builder().unlimited().env("STARLING_HEARTBEAT_SECONDS", HEARTBEAT).start().await.unwrap();
    fill(&node).await;
    let mut slow = Slow::connect(&node).await;
    let (page, took) = slow.history(MESSAGES + 1, Some(BYTES_PER_SECOND)).await;
    println!("the first page took {took:?}");
    assert_eq!(page, (1..=MESSAGES).collect::<Vec<_>>(), "nothing was known of the client");
    assert!(took > SILENCE_MAX + Duration::from_secs(2), "the page was too short to show anything");
    // From now on the node considers it slow, until it reads quickly.
    let (mut next, mut seen, mut shorter) = (MESSAGES + 1, Vec::new(), 0);
    let mut rate = Some(BYTES_PER_SECOND);
    while next > 1 {
        let (page, took) = slow.history(next, rate.take()).await;
        println!("{page:?} took {took:?}");
        shorter += usize::from(page.len() <= 2);
        next = page[0];
        seen.extend(page.into_iter().rev());
    }
    assert_eq!(seen, (1..=MESSAGES).rev().collect::<Vec<_>>());
    assert!(shorter > 0, "all pages were long");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_a_page_is_gone_after_two_heartbeats() {
    let _turn = TURN.lock().await;
    let node =
        Node::builder().unlimited().env("STARLING_HEARTBEAT_SECONDS", HEARTBEAT).start().await.unwrap();
    fill(&node).await;
    let connections = async || node.metric("starling_connections", "").await.unwrap();
    let before = connections().await;
    let witness = Witness::called(&node, "witness").await;
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connected(&node, "mallory", "").await;
        // Much more than the kernels buffer.
        raw.send(&ask(2, MESSAGES + 1).repeat(50)).await.unwrap();
        stuck.push(raw);
    }
    assert!(connections().await >= before + 10.0);
    // One of them is the witness.
    let gone = async || Ok(connections().await <= before + 1.0);
    wait::until_true(SOON, "their end", gone).await.unwrap();
    drop(stuck);
    witness.was_served().await;
}

/// Client on a slow connection, with a tiny receive buffer.
struct Slow {
    stream: TcpStream,
    came: VecDeque<u8>,
    next_id: u64,
}

impl Slow {
    async fn connect(node: &Node) -> Slow {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let stream = socket.connect(node.address()).await.unwrap();
        let raw = Raw::upgrade(stream, node, "").await;
        let mut slow = Slow { stream: raw.stream, came: VecDeque::new(), next_id: 1 };
        let connect = json!({"id": 1, "op": "connect", "token": node.token("mallory")});
        slow.stream.write_all(&frame(FIN | TEXT, connect.to_string().as_bytes())).await.unwrap();
        slow.answer(1, None).await;
        slow
    }

    /// Reads the page before a number at this rate; returns the numbers and how long it took.
    async fn history(&mut self, before: u64, bytes_per_second: Option<usize>) -> (Vec<u64>, Duration) {
        self.next_id += 1;
        let begun = Instant::now();
        self.stream.write_all(&ask(self.next_id, before)).await.unwrap();
        let answer = self.answer(self.next_id, bytes_per_second).await;
        let messages = answer["ok"]["messages"].as_array().expect("a page");
        let numbers: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        assert_eq!(answer["ok"]["more"], numbers[0] > 1, "whether there is more is said as it is");
        (numbers, begun.elapsed())
    }

    /// Reads up to the reply. Answers pings when they arrive, like any client.
    async fn answer(&mut self, id: u64, bytes_per_second: Option<usize>) -> Value {
        let mut space = vec![0; bytes_per_second.map_or(1 << 16, |rate| rate / 20)];
        loop {
            while let Some((opcode, payload)) = self.take_frame() {
                if opcode == PING {
                    self.stream.write_all(&frame(FIN | PONG, &payload)).await.unwrap();
                } else if opcode == TEXT {
                    let object: Value = serde_json::from_slice(&payload).unwrap();
                    assert_eq!(object["id"], id);
                    return object;
                } else {
                    panic!("{opcode:x} came: {:?}", String::from_utf8_lossy(&payload));
                }
            }
            let length =
                timeout(SOON, self.stream.read(&mut space)).await.expect("something").expect("no reset");
            assert!(length > 0, "the node hung up");
            self.came.extend(&space[..length]);
            if let Some(rate) = bytes_per_second {
                sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let bytes = self.came.make_contiguous();
        let (head, length) = match *bytes {
            [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([a, b]))),
            [_, 127, ..] => {
                (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).unwrap())
            }
            [_, length, ..] if length < 126 => (2, usize::from(length)),
            _ => return None,
        };
        let opcode = bytes[0] & 0x0f;
        let payload = bytes.get(head..head + length)?.to_vec();
        self.came.drain(..head + length);
        Some((opcode, payload))
    }
}

fn ask(id: u64, before: u64) -> Vec<u8> {
    let history = json!({"id": id, "op": "history", "conversation": "long", "before": before, "limit": 200});
    frame(FIN | TEXT, history.to_string().as_bytes())
}

/// Creates a conversation of `mallory` with long messages.
async fn fill(node: &Node) {
    let url = format!("{}/v1/conversations", node.http_url());
    let token = node.token("mallory");
    let create = json!({"conversation": "long"});
    assert_eq!(Request::new("POST", &url).bearer(&token).json(&create).send().await.unwrap().status, 201);
    for n in 0..MESSAGES {
        let message = json!({"key": format!("k{n}"), "content": "x".repeat(CONTENT_BYTES)});
        let post = Request::new("POST", &format!("{url}/long/messages")).bearer(&token).json(&message);
        assert_eq!(post.send().await.unwrap().status, 201);
    }
}

//! After an error the node names the reason, closes, and soon stops reading.

use std::time::Duration;

use starling_testkit::node::Node;
use starling_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::wire::{CLOSE, CONTINUATION, FIN, PING, Raw, TEXT, frame};
use crate::witness::Witness;
use crate::{SOON, TURN};

const BINARY: u8 = 0x2;
const RESERVED: u8 = 0x10;
/// Bytes that a client keeps sending after its error.
const FLOOD_BYTES: usize = 24 << 20;
/// Most bytes of these that a node reads. It discards 64 KiB, and may have read as much together with the error.
const READ_BYTES_MAX: f64 = 160.0 * 1024.0;

/// An error, and the code with which the node closes.
struct Fault {
    what: &'static str,
    code: u16,
    bytes: Vec<u8>,
    /// Data that follows it endlessly.
    flood: Vec<u8>,
    connected: bool,
}

fn faults() -> Vec<Fault> {
    let fault = |what, code, bytes: &[u8], flood: &[u8]| {
        let flood = flood.repeat(1 + 16_000 / flood.len());
        Fault { what, code, bytes: bytes.to_vec(), flood, connected: true }
    };
    let talk = frame(FIN | TEXT, br#"{"id":9,"op":"ping"}"#);
    // A length of a terabyte, followed by zeros only.
    let endless = [&[FIN | TEXT, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let fragments = frame(CONTINUATION, &[b' '; 10_000]);
    let first_fragments = [frame(TEXT, b"{"), fragments.repeat(14)].concat();
    let stranger = Fault { connected: false, ..fault("a command before connect", 4401, &talk, &talk) };
    vec![
        fault("a frame without end", 1009, &endless, &[0; 1_000]),
        fault("fragments without end", 1009, &first_fragments, &fragments),
        fault("a reserved bit", 1002, &frame(FIN | RESERVED | TEXT, b"{}"), &talk),
        fault("no UTF-8", 1007, &frame(FIN | TEXT, b"\xff"), &talk),
        fault("no object", 4400, &frame(FIN | TEXT, b"[]"), &talk),
        fault(
            "an object, then a reserved bit",
            4400,
            &frame(FIN | TEXT, b"[]"),
            &frame(FIN | RESERVED | TEXT, b""),
        ),
        fault("binary", 1003, &frame(FIN | BINARY, b"\x80"), &frame(FIN | PING, b"p")),
        fault("its own close frame", 1000, &frame(FIN | CLOSE, &1000_u16.to_be_bytes()), &talk),
        stranger,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_the_node_says_why_and_reads_no_more_than_a_little() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    for Fault { what, code, bytes, flood, connected } in faults() {
        let raw = match connected {
            true => Raw::connected(&node, "mallory", "").await,
            false => Raw::open(&node, "").await,
        };
        let before = read_bytes(&node).await;
        let (mut reads, mut writes) = raw.stream.into_split();
        writes.write_all(&bytes).await.unwrap();
        let flooding = tokio::spawn(async move {
            let mut sent = 0;
            while sent < FLOOD_BYTES && writes.write_all(&flood).await.is_ok() {
                sent += flood.len();
            }
            sent
        });
        // The client gets the close frame although it keeps sending, and the connection ends although it never replies.
        let mut told = Vec::new();
        let _end_or_reset = timeout(SOON, reads.read_to_end(&mut told)).await.expect("the connection ends");
        let close = told.windows(4).find(|four| four[0] == FIN | CLOSE && four[2..] == code.to_be_bytes());
        assert!(close.is_some(), "{what}: {code} is not in {told:02x?}");
        let sent = timeout(SOON, flooding).await.expect("the kernel ends it").unwrap();
        let read = read_bytes(&node).await - before;
        println!("{what}: closed with {code}; {sent} bytes were sent on, {read} were read");
        assert!(read <= bytes.len() as f64 + READ_BYTES_MAX, "{what}: {read} bytes were read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_go_and_stays_is_cut_off_within_seconds() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let connections = async || node.metric("starling_connections", "").await.unwrap();
    let before = connections().await;
    let mut held = Vec::new();
    for Fault { bytes, connected, .. } in faults() {
        let mut raw = match connected {
            true => Raw::connected(&node, "mallory", "").await,
            false => Raw::open(&node, "").await,
        };
        raw.send(&bytes).await.unwrap();
        held.push(raw);
    }
    // None of them reads, says goodbye or hangs up. Pings come every 25 s, so that it is not these that end them.
    wait::until_true(Duration::from_secs(20), "their end", async || Ok(connections().await <= before))
        .await
        .unwrap();
    drop(held);
    witness.was_served().await;
}

async fn read_bytes(node: &Node) -> f64 {
    node.metric("starling_bytes_received_total", "").await.unwrap()
}

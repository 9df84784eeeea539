//! Frames that are small on the wire and large when decompressed.

use std::io::Write;

use starling_testkit::node::Node;

use crate::wire::{COMPRESSED, CONTINUATION, FIN, Raw, TEXT, frame};
use crate::witness::Witness;
use crate::{Memory, TURN, mib};

const OFFER: &str = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";

async fn node() -> Node {
    Node::builder().unlimited().env("STARLING_PERMESSAGE_DEFLATE", "true").start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compression_bomb_closes_with_1009_and_is_never_unpacked() {
    let _turn = TURN.lock().await;
    let node = node().await;
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    // 64 KiB that decompress to 64 MiB: a factor of a thousand, the most that deflate allows.
    let bomb = deflated(64 << 20);
    println!("{} bytes for 64 MiB", bomb.len());
    assert!(bomb.len() < 128 << 10);
    for _ in 0..50 {
        let mut raw = Raw::connected(&node, "mallory", OFFER).await;
        raw.send(&frame(FIN | COMPRESSED | TEXT, &bomb)).await.unwrap();
        assert_eq!(raw.close_code().await, Some(1009));
    }
    // The same in fragments, with the limit inside the first.
    let mut raw = Raw::connected(&node, "mallory", OFFER).await;
    let (first, rest) = bomb.split_at(1_000);
    raw.send(&frame(COMPRESSED | TEXT, first)).await.unwrap();
    let _ = raw.send(&frame(FIN | CONTINUATION, rest)).await;
    assert!(matches!(raw.close_code().await, Some(1009) | None));
    memory.grew_at_most(&node, mib(24), "51 compression bombs");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_may_be_as_large_inside_as_what_is_not() {
    let _turn = TURN.lock().await;
    let node = node().await;
    for (bytes, code) in [(128 * 1024, 4400), (128 * 1024 + 1, 1009)] {
        let mut raw = Raw::connected(&node, "mallory", OFFER).await;
        raw.send(&frame(FIN | COMPRESSED | TEXT, &deflated(bytes))).await.unwrap();
        // Zeros are not an object of the protocol, but they were read.
        assert_eq!(raw.close_code().await, Some(code), "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_nonsense_closes_and_harms_nobody() {
    let _turn = TURN.lock().await;
    let node = node().await;
    let witness = Witness::of(&node).await;
    for payload in [&b"\xff\xff\xff\xff"[..], b"\x06", b"\x00\x05\x00\x00\x00", &[0x55; 1_000]] {
        let mut raw = Raw::connected(&node, "mallory", OFFER).await;
        raw.send(&frame(FIN | COMPRESSED | TEXT, payload)).await.unwrap();
        let code = raw.close_code().await.unwrap();
        assert!([1002, 1007, 4400].contains(&code), "{payload:02x?}: {code}");
    }
    // Without negotiation, the bit for compression is reserved.
    let mut raw = Raw::connected(&node, "mallory", "").await;
    raw.send(&frame(FIN | COMPRESSED | TEXT, &deflated(10))).await.unwrap();
    assert_eq!(raw.close_code().await, Some(1002));
    witness.was_served().await;
}

/// Hundreds of large commands in one read. Each is valid and gets its reply.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_commands_in_one_read_are_unpacked_a_few_at_a_time() {
    const COMMANDS: usize = 500;
    let _turn = TURN.lock().await;
    let node = node().await;
    let witness = Witness::of(&node).await;
    let token = "a".repeat(64 << 10);
    let mut bomb = Vec::new();
    for id in 2..2 + COMMANDS {
        // A second `connect` is refused at once, so that none is in progress.
        let command = format!(r#"{{"id":{id},"op":"connect","token":"{token}"}}"#);
        bomb.extend(frame(FIN | COMPRESSED | TEXT, &packed(command.as_bytes())));
    }
    println!("{} bytes for {} MiB", bomb.len(), (COMMANDS * token.len()) >> 20);
    assert!(bomb.len() < 128 << 10);
    // The first round allocates what the node only allocates once.
    let mut before = None;
    for _ in 0..5 {
        let mut raw = Raw::connected(&node, "mallory", OFFER).await;
        before.get_or_insert_with(|| peak_bytes(&node));
        raw.send(&bomb).await.unwrap();
        for id in 2..2 + COMMANDS {
            let (_, answer) = raw.next().await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!(r#"{{"id":{id},"#)), "{id}: {answer}");
            assert!(answer.contains("conflict"), "{answer}");
        }
    }
    let growth = peak_bytes(&node) - before.unwrap();
    println!("at its largest the node was {} KiB larger", growth >> 10);
    assert!(growth <= mib(16), "the node was {growth} bytes larger for a while");
    witness.was_served().await;
}

/// Returns the peak memory of the node.
fn peak_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Compresses this many zeros for a frame.
fn deflated(zeros: usize) -> Vec<u8> {
    packed(&vec![0; zeros])
}

/// Compresses a message for a frame.
fn packed(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(message).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    // RFC 7692, section 7.2.1: the end of a flush is removed.
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

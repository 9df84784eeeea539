//! Frames that are small on the wire and large inside.

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
    // 64 KiB that would be 64 MiB: a thousandfold, the most that deflate can do.
    let bomb = deflated(64 << 20);
    println!("{} bytes for 64 MiB", bomb.len());
    assert!(bomb.len() < 128 << 10);
    for _ in 0..50 {
        let mut raw = Raw::connected(&node, "mallory", OFFER).await;
        raw.send(&frame(FIN | COMPRESSED | TEXT, &bomb)).await.unwrap();
        assert_eq!(raw.close_code().await, Some(1009));
    }
    // The same in parts, with the limit within the first.
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
        // Zeros are no object of the protocol; but they were read.
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
    // Compressed without an agreement, it is a reserved bit.
    let mut raw = Raw::connected(&node, "mallory", "").await;
    raw.send(&frame(FIN | COMPRESSED | TEXT, &deflated(10))).await.unwrap();
    assert_eq!(raw.close_code().await, Some(1002));
    witness.was_served().await;
}

/// So many zeros, as a frame carries them.
fn deflated(zeros: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let piece = vec![0; 64 << 10];
    let mut left = zeros;
    while left > 0 {
        let length = left.min(piece.len());
        encoder.write_all(&piece[..length]).unwrap();
        left -= length;
    }
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    // RFC 7692, section 7.2.1: the end of a flush is left out.
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

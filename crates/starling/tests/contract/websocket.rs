//! RFC 6455, byte by byte.

use std::time::{Duration, Instant};

use serde_json::json;
use starling_testkit::client::{Client, Encoding};

use crate::place::{Arrangement, Place, everywhere};
use crate::raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Raw, TEXT};
use crate::talk::Talk;

async fn open(place: &Place) -> Raw {
    Raw::open(place.node(0), place.encoding.subprotocol()).await
}

/// Payload of a `ping` before `connect`. The reply `unauthorized` shows that it was read.
fn command(place: &Place) -> (u8, Vec<u8>) {
    match place.encoding {
        Encoding::Json => (TEXT, br#"{"id":1,"op":"ping"}"#.to_vec()),
        Encoding::MessagePack => (BINARY, b"\x82\xa2id\x01\xa2op\xa4ping".to_vec()),
    }
}

#[test]
fn a_frame_that_is_not_masked_closes_with_1002() {
    everywhere(async |place| {
        let mut raw = open(place).await;
        let (opcode, payload) = command(place);
        raw.unmasked(FIN | opcode, &payload).await;
        assert_eq!(raw.close_code().await, 1002);
        raw.hung_up().await;
    });
}

#[test]
fn broken_rules_of_frames_close_with_1002() {
    everywhere(async |place| {
        let (data, _) = command(place);
        for (what, first, payload) in [
            ("a reserved bit", FIN | 0x40 | data, vec![]),
            ("a reserved opcode", FIN | 0x3, vec![]),
            ("a reserved control opcode", FIN | 0xb, vec![]),
            ("a continuation of nothing", FIN | CONTINUATION, vec![]),
            ("a control frame of 126 bytes", FIN | PING, vec![0; 126]),
            ("a control frame in parts", PING, vec![]),
            ("a close with one byte", FIN | CLOSE, vec![3]),
            ("a close with a code that nobody may send", FIN | CLOSE, 1005_u16.to_be_bytes().to_vec()),
        ] {
            let mut raw = open(place).await;
            raw.frame(first, &payload).await;
            assert_eq!(raw.close_code().await, 1002, "{what}");
            raw.hung_up().await;
        }
    });
}

#[test]
fn a_new_message_within_a_message_closes_with_1002() {
    everywhere(async |place| {
        let mut raw = open(place).await;
        let (opcode, payload) = command(place);
        raw.frame(opcode, &payload[..4]).await;
        raw.frame(FIN | opcode, &payload).await;
        assert_eq!(raw.close_code().await, 1002);
    });
}

#[test]
fn text_that_is_not_utf_8_closes_with_1007() {
    everywhere(async |place| {
        if place.encoding == Encoding::Json {
            for bytes in [&b"{\"id\":1,\"op\":\"\xff\"}"[..], b"\xc3", b"\xed\xa0\x80"] {
                let mut raw = open(place).await;
                raw.frame(FIN | TEXT, bytes).await;
                assert_eq!(raw.close_code().await, 1007, "{bytes:02x?}");
            }
        }
    });
}

#[test]
fn a_frame_that_announces_too_much_closes_with_1009_at_its_head() {
    everywhere(async |place| {
        let (opcode, _) = command(place);
        let mut raw = open(place).await;
        // Header of a frame of 128 KiB and a byte, without its payload.
        raw.bytes(&[FIN | opcode, 0xff, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0]).await;
        assert_eq!(raw.close_code().await, 1009);
    });
}

#[test]
fn a_message_in_parts_counts_as_a_whole_against_the_limit() {
    everywhere(async |place| {
        let (opcode, _) = command(place);
        let part = vec![b' '; 64 * 1024];
        let mut raw = open(place).await;
        raw.frame(opcode, &part).await;
        raw.frame(CONTINUATION, &part).await;
        raw.frame(FIN | CONTINUATION, b" ").await;
        assert_eq!(raw.close_code().await, 1009);
    });
}

#[test]
fn a_message_in_parts_with_a_ping_between_is_read_as_one() {
    everywhere(async |place| {
        let mut raw = open(place).await;
        let (opcode, payload) = command(place);
        let (first, second) = payload.split_at(5);
        raw.frame(opcode, first).await;
        raw.frame(FIN | PING, b"are you there?").await;
        raw.frame(FIN | CONTINUATION, second).await;
        assert_eq!(raw.next().await, (PONG, b"are you there?".to_vec()));
        let (kind, reply) = raw.next().await;
        assert!(kind == opcode && reply.windows(12).any(|part| part == b"unauthorized"));
    });
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_read() {
    everywhere(async |place| {
        let mut raw = open(place).await;
        let (opcode, payload) = command(place);
        // A mask of zeros changes nothing.
        let head = [FIN | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        for byte in head.iter().chain(&payload) {
            raw.bytes(&[*byte]).await;
        }
        assert_eq!(raw.next().await.0, opcode);
    });
}

#[test]
fn a_close_is_answered_with_its_code_and_the_socket_ends() {
    everywhere(async |place| {
        for code in [1000_u16, 1001, 3000, 4999] {
            let mut raw = open(place).await;
            raw.frame(FIN | CLOSE, &code.to_be_bytes()).await;
            assert_eq!(raw.close_code().await, code);
            raw.hung_up().await;
        }
    });
}

#[test]
fn a_pong_that_nobody_asked_for_is_harmless() {
    everywhere(async |place| {
        let mut raw = open(place).await;
        raw.frame(FIN | PONG, b"hello").await;
        let (opcode, payload) = command(place);
        raw.frame(FIN | opcode, &payload).await;
        assert_eq!(raw.next().await.0, opcode);
    });
}

#[tokio::test]
async fn what_was_said_before_goodbye_is_done_although_both_came_at_once() {
    const MESSAGES: u64 = 20;
    let nodes = Arrangement::Alone.nodes_with(&[]).await;
    let mut said = vec![
        json!({"id": 1, "op": "connect", "token": nodes[0].token("ada")}),
        json!({"id": 2, "op": "create", "conversation": "goodbye"}),
    ];
    said.extend((0..MESSAGES).map(|n| {
        json!({"id": 3 + n, "op": "send", "conversation": "goodbye", "key": n.to_string(), "content": "x"})
    }));
    // Masked with zeros, and all in one write.
    let mut bytes = Vec::new();
    for command in said {
        let payload = command.to_string();
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        bytes.extend([&[FIN | TEXT, 0xfe][..], &length, &[0; 4], payload.as_bytes()].concat());
    }
    bytes.extend([&[FIN | CLOSE, 0x82, 0, 0, 0, 0][..], &1000_u16.to_be_bytes()].concat());
    let mut raw = Raw::open(&nodes[0], Encoding::Json.subprotocol()).await;
    raw.bytes(&bytes).await;
    let goodbye = loop {
        let (opcode, payload) = raw.next().await;
        if opcode == CLOSE {
            break payload;
        }
    };
    assert_eq!(goodbye, 1000_u16.to_be_bytes());
    let mut ada = Client::connect(&nodes[0].ws_url(), &nodes[0].token("ada"), Encoding::Json).await.unwrap();
    let joined = ada.ask("join", json!({"conversation": "goodbye"})).await;
    // Frames that were begun are still written, at the latest after the reply to the close frame.
    let mut head = joined["head"].as_u64().unwrap();
    while head < MESSAGES {
        head = ada.wait_for_event("message").await.unwrap()["seq"].as_u64().unwrap();
    }
    assert_eq!(head, MESSAGES);
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone_after_two_heartbeats_and_others_stay() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_HEARTBEAT_SECONDS", "1")]).await;
    let node = &nodes[0];
    let mut silent = Raw::open(node, Encoding::Json.subprotocol()).await;
    let connect = format!(r#"{{"id":1,"op":"connect","token":"{}"}}"#, node.token("bob"));
    let begun = Instant::now();
    silent.frame(FIN | TEXT, connect.as_bytes()).await;
    let mut first_two = [silent.next().await.0, silent.next().await.0];
    first_two.sort_unstable();
    assert_eq!(first_two, [TEXT, PING], "an answer and a ping");
    // A client that reads answers pings automatically.
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    let gone = async {
        silent.hung_up().await;
        begun.elapsed()
    };
    let (open, after) = tokio::join!(ada.closed(Duration::from_secs(6)), gone);
    assert!((Duration::from_millis(1_900)..Duration::from_secs(15)).contains(&after), "{after:?}");
    assert!(open.is_err(), "{open:?}");
    assert_eq!(ada.ask("ping", serde_json::json!({})).await, serde_json::json!({}));
    assert_eq!(ada.welcome()["heartbeat_ms"], 1_000);
}

#[tokio::test]
async fn any_frame_counts_as_life() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_HEARTBEAT_SECONDS", "1")]).await;
    let mut raw = Raw::open(&nodes[0], Encoding::Json.subprotocol()).await;
    let connect = format!(r#"{{"id":1,"op":"connect","token":"{}"}}"#, nodes[0].token("ada"));
    raw.frame(FIN | TEXT, connect.as_bytes()).await;
    let begun = Instant::now();
    let mut answers = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        // Sends a command after each ping of the node, but never a pong.
        match raw.next().await.0 {
            PING => raw.frame(FIN | TEXT, br#"{"id":2,"op":"ping"}"#).await,
            TEXT => answers += 1,
            other => panic!("opcode {other}"),
        }
    }
    assert!(answers >= 4, "{answers}");
}

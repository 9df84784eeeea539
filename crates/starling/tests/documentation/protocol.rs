//! `docs/protocol.md`.

use starling_testkit::client::{Client, Encoding, Message};
use starling_testkit::node::{Cluster, Node};

use crate::exchange::{exchanges, fenced};
use crate::pages::page;
use crate::play::Stage;

/// How long a reply may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test]
async fn every_exchange_happens_as_shown() {
    let node = Node::builder().name("node-1").start().await.unwrap();
    let blocks = exchanges(&page("docs/protocol.md"));
    let mut stage = Stage::new([&node, &node]);
    let mut played = 0;
    for block in blocks.iter().filter(|block| block.mode != "drain") {
        stage.play(block).await;
        played += 1;
    }
    assert!(played >= 15, "only {played} blocks were found");
}

#[tokio::test]
async fn the_hand_over_of_a_draining_node_happens_as_shown() {
    let cluster = Cluster::start(2).await.unwrap();
    let blocks = exchanges(&page("docs/protocol.md"));
    let block = blocks.iter().find(|block| block.mode == "drain").expect("the drain");
    Stage::new([cluster.node(0), cluster.node(1)]).play(block).await;
    let ended = cluster.node(0).ended(SOON * 3).await.unwrap();
    assert_eq!(ended.code(), Some(0), "a clean drain");
}

#[tokio::test]
async fn the_bytes_of_messagepack_are_as_shown() {
    let node = Node::start().await.unwrap();
    let text = page("docs/protocol.md");
    let blocks = fenced(&text, "text msgpack");
    let [(_, _, lines)] = blocks.as_slice() else { panic!("one block is expected: {blocks:?}") };
    let mut client =
        Client::connect(&node.ws_url(), &node.token("ada"), Encoding::MessagePack).await.unwrap();
    let mut replies = 0;
    for line in lines {
        if let Some(hex) = line.strip_prefix("→ ") {
            client.send_raw(Message::binary(bytes(hex))).await.unwrap();
        } else if let Some(hex) = line.strip_prefix("← ") {
            let Message::Binary(reply) = client.next_raw(SOON).await.unwrap() else {
                panic!("no binary frame")
            };
            assert_eq!(reply.as_ref(), bytes(hex), "{line}");
            replies += 1;
        }
    }
    assert_eq!(replies, 1);
}

#[test]
fn the_limits_are_those_of_the_code() {
    use starling_wire::protocol as wire;
    let text = page("docs/protocol.md");
    for (what, limit) in [
        ("a client's frame", format!("{} KiB", wire::CLIENT_FRAME_BYTES_MAX / 1024)),
        ("`content`", format!("{} KiB", wire::CONTENT_BYTES_MAX / 1024)),
        ("`metadata`", format!("{} KiB", wire::METADATA_BYTES_MAX / 1024)),
        ("`data`", format!("{} KiB", wire::DATA_BYTES_MAX / 1024)),
        ("`title`", format!("{} KiB", wire::TITLE_BYTES_MAX / 1024)),
        ("`key`", format!("1 to {} characters", wire::KEY_CHARS_MAX)),
        ("names", format!("1 to {} characters", starling_model::NAME_LENGTH_MAX)),
        ("`members` in `create`", format!("{},000", wire::CREATE_MEMBERS_MAX / 1000)),
        ("cursors and topics in `resume`", format!("{},000", wire::RESUME_ENTRIES_MAX / 1000)),
        ("nesting", wire::DEPTH_MAX.to_string()),
        ("`limit` of `history`", wire::HISTORY_LIMIT_MAX.to_string()),
    ] {
        assert!(text.contains(&format!("| {what} | {limit}")), "{what}: {limit}");
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect()
}

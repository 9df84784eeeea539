//! Well-formed hostile frames: endless nesting, huge numbers of keys, names and keys that are
//! too long, and invalid text.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Message};
use starling_testkit::node::Node;

use crate::wire::{FIN, Raw, TEXT, frame};
use crate::witness::Witness;
use crate::{Memory, SOON, TURN, mib};

async fn client(node: &Node, encoding: Encoding) -> Client {
    let mut client = Client::connect(&node.ws_url(), &node.token("mallory"), encoding).await.unwrap();
    client.set_patience(SOON);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_is_refused_and_overflows_no_stack() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    for depth in [1_000, 60_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let depth = depth / open.len();
            let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            for text in [
                format!(r#"{{"id":7,"op":"publish","topic":"t","data":{deep}}}"#),
                format!(r#"{{"id":7,"op":"ping","nobody reads this":{deep}}}"#),
                // Never closed.
                format!(r#"{{"id":7,"op":"publish","topic":"t","data":{}"#, open.repeat(depth)),
            ] {
                answered_or_closed(client(&node, Encoding::Json).await, Message::text(text)).await;
            }
        }
        // Arrays of one element, and maps of one key.
        for level in [&b"\x91"[..], b"\x81\xa1a"] {
            let deep = [level.repeat(depth / level.len()), vec![0xc0]].concat();
            let head = b"\x84\xa2id\x07\xa2op\xa7publish\xa5topic\xa1t\xa4data";
            let publish = Message::binary([&head[..], &deep].concat());
            answered_or_closed(client(&node, Encoding::MessagePack).await, publish).await;
            let ping = Message::binary([&b"\x83\xa2id\x07\xa2op\xa4ping\xa1x"[..], &deep].concat());
            answered_or_closed(client(&node, Encoding::MessagePack).await, ping).await;
        }
        // An array that announces four billion elements, and a text of as many bytes.
        for promise in [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"] {
            let head = b"\x84\xa2id\x07\xa2op\xa7publish\xa5topic\xa1t\xa4data";
            let publish = Message::binary([&head[..], promise].concat());
            answered_or_closed(client(&node, Encoding::MessagePack).await, publish).await;
        }
    }
    memory.grew_at_most(&node, mib(24), "deep nesting");
    witness.was_served().await;
}

/// Checks that the frame is refused, and that the connection closes with 4400 or stays open.
async fn answered_or_closed(mut client: Client, message: Message) {
    client.send_raw(message).await.unwrap();
    match client.reply(7).await {
        // Ignored fields may be nested to any depth.
        Ok(_) => {}
        Err(failure) => {
            let fits = failure.code() == Some("bad_request") || failure.close_code() == Some(4400);
            assert!(fits, "{failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_very_many_keys_are_bounded_by_their_size() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    for encoding in Encoding::ALL {
        let mut mallory = client(&node, encoding).await;
        // As many as fit into a frame, in a field that is read and in one that is ignored.
        let keys: Vec<String> = (0..12_000).map(|n| format!("{n:05}")).collect();
        let many: Value =
            keys.iter().map(|key| (key.clone(), json!(0))).collect::<serde_json::Map<_, _>>().into();
        for _ in 0..50 {
            let failure = mallory.command("publish", json!({"topic": "t", "data": many})).await.unwrap_err();
            assert_eq!(failure.code(), Some("too_large"));
            mallory.command("ping", json!({"unread": many})).await.unwrap();
            let create = json!({"conversation": "c", "metadata": many});
            assert_eq!(mallory.command("create", create).await.unwrap_err().code(), Some("too_large"));
        }
        // A hundred thousand do not fit into a frame.
        let text = format!(r#"{{"id":7,"op":"ping","x":{{{}}}}}"#, vec![r#""k":0"#; 100_000].join(","));
        let message = match encoding {
            Encoding::Json => Message::text(text),
            Encoding::MessagePack => Message::binary(text.into_bytes()),
        };
        // The node may close the connection before the whole frame has arrived.
        let _ = mallory.send_raw(message).await;
        let closed = mallory.closed(SOON).await.unwrap();
        assert!(matches!(closed.code, Some(1009) | None), "{closed:?}");
    }
    // The same key ten thousand times.
    let mut mallory = client(&node, Encoding::Json).await;
    let same =
        format!(r#"{{"id":7,"op":"publish","topic":"t","data":{{{}}}}}"#, vec![r#""k":0"#; 10_000].join(","));
    answered_or_closed_by(&mut mallory, &same).await;
    memory.grew_at_most(&node, mib(24), "objects of many keys");
    witness.was_served().await;
}

async fn answered_or_closed_by(client: &mut Client, text: &str) {
    client.send_raw(Message::text(text.to_owned())).await.unwrap();
    match client.reply(7).await {
        Ok(_) => {}
        Err(failure) => assert!(matches!(failure.code(), Some("too_large" | "bad_request")), "{failure}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_that_names_very_many_conversations_and_topics_is_bounded() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let cursors: Value =
        (0..8_000).map(|n| (format!("c{n}"), json!(0))).collect::<serde_json::Map<_, _>>().into();
    for _ in 0..5 {
        let mallory = client(&node, Encoding::Json).await;
        let (session, ticket) = (&mallory.welcome()["session"], &mallory.welcome()["ticket"]);
        let resume = json!({"session": session, "ticket": ticket, "cursors": cursors});
        let resumed = Client::resume(&node.ws_url(), &node.token("mallory"), Encoding::Json, resume).await;
        match resumed {
            // None of them exists.
            Ok(client) => {
                let conversations = &client.welcome()["conversations"];
                assert!(conversations.as_object().is_none_or(serde_json::Map::is_empty), "{conversations}");
            }
            Err(failure) => assert!(failure.code().is_some(), "{failure}"),
        }
    }
    memory.grew_at_most(&node, mib(32), "resumes of 8,000 cursors");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_keys_beyond_their_length_are_refused_and_kept_nowhere() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let long = "n".repeat(100_000);
    for encoding in Encoding::ALL {
        let mut mallory = client(&node, encoding).await;
        for (op, fields) in [
            ("create", json!({"conversation": long})),
            ("create", json!({"conversation": "c", "members": [long]})),
            ("join", json!({"conversation": long})),
            ("presence", json!({"conversation": long})),
            ("subscribe", json!({"topic": long})),
            ("subscribe", json!({"topic": "t", "since": {"epoch": long, "offset": 1}})),
            ("publish", json!({"topic": long, "data": 1})),
            ("send", json!({"conversation": "c", "key": long, "content": "x"})),
            (&long, json!({})),
        ] {
            for _ in 0..20 {
                let outcome = mallory.command(op, fields.clone()).await;
                let code = outcome.as_ref().err().and_then(|failure| failure.code());
                // A position that does not exist is not recovered.
                let fits = matches!(code, Some("bad_request" | "too_large"))
                    || (op == "subscribe" && outcome.is_ok());
                assert!(fits, "{}: {outcome:?}", &op[..op.len().min(20)]);
            }
        }
    }
    memory.grew_at_most(&node, mib(24), "long names");
    assert!(!node.log().contains(&long[..1_000]), "a name of a stranger fills the log");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_close_and_reach_nobody() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        let publish = [&br#"{"id":2,"op":"publish","topic":"t","data":""#[..], bytes, b"\"}"].concat();
        let mut raw = Raw::connected(&node, "mallory", "").await;
        raw.send(&frame(FIN | TEXT, &publish)).await.unwrap();
        assert_eq!(raw.close_code().await, Some(1007), "{bytes:02x?}");
        // In MessagePack the bytes of a text are wrong, not those of the frame.
        let mut mallory = client(&node, Encoding::MessagePack).await;
        let head = b"\x84\xa2id\x07\xa2op\xa7publish\xa5topic\xa1t\xa4data";
        let text = [&[0xa0 | u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let publish = Message::binary([&head[..], &text].concat());
        mallory.send_raw(publish).await.unwrap();
        let failure = mallory.reply(7).await.unwrap_err();
        assert!(failure.code() == Some("bad_request") || failure.close_code() == Some(4400), "{failure}");
    }
    // Lone surrogates, which JSON can express and UTF-8 cannot.
    let mut mallory = client(&node, Encoding::Json).await;
    let half = r#"{"id":7,"op":"publish","topic":"t","data":"\ud800"}"#;
    mallory.send_raw(Message::text(half)).await.unwrap();
    let failure = mallory.reply(7).await.unwrap_err();
    assert!(failure.code() == Some("bad_request") || failure.close_code() == Some(4400), "{failure}");
    witness.was_served().await;
}

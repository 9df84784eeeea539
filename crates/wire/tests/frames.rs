//! What clients see: every reply, error and event, in both encodings. A change here is a change of the protocol.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Serialize;
use starling_model::{ConversationName, UserName};
use starling_wire::protocol::*;

const AT: Timestamp = Timestamp(1_795_255_200_123);
const ID: u128 = 0x0193_5b6e_7f00_7abc_8def_0123_4567_89ab;

/// A frame in both encodings: the JSON, and the MessagePack in hexadecimal digits, which must mean the same.
fn show(out: &mut String, json: &[u8], msgpack: &[u8]) {
    let text = std::str::from_utf8(json).unwrap();
    let theirs: serde_json::Value = rmp_serde::from_slice(msgpack).unwrap();
    assert_eq!(theirs, serde_json::from_str::<serde_json::Value>(text).unwrap());
    let hex: String = msgpack.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "{text}\n{hex}\n").unwrap();
}

fn encode_ok(encoding: Encoding, id: u64, ok: &impl Serialize) -> Bytes {
    payload_in(encoding, &encode_ok_frame(encoding, id, ok))
}

fn encode_error(encoding: Encoding, id: u64, error: &ErrorBody) -> Bytes {
    payload_in(encoding, &encode_error_frame(encoding, id, error))
}

fn encode_event(encoding: Encoding, event: &Event) -> Bytes {
    payload_in(encoding, &encode_event_frame(encoding, event))
}

/// The payload of a frame that is made as every other one is.
fn payload_in(encoding: Encoding, whole: &Bytes) -> Bytes {
    let payload = payload_of(whole);
    assert_eq!(*whole, frame(encoding, &payload));
    payload
}

fn ok(out: &mut String, ok: &impl Serialize) {
    show(out, &encode_ok(Encoding::Json, 7, ok), &encode_ok(Encoding::MsgPack, 7, ok));
}

fn event(out: &mut String, event: &Event) {
    show(out, &encode_event(Encoding::Json, event), &encode_event(Encoding::MsgPack, event));
}

#[test]
fn replies() {
    let mut out = String::new();
    let subscribed = Subscribed { epoch: "e1".into(), offset: 300, recovered: true, replayed: 2 };
    let connected = Connected {
        session: "s1".into(),
        ticket: "ticket".into(),
        user: "ada".into(),
        tenant: "default".into(),
        node: "node-1".into(),
        resumed: false,
        heartbeat_ms: 25_000,
        resume_window_ms: 120_000,
        expires_at: AT,
        conversations: None,
        topics: None,
        gone: None,
    };
    ok(&mut out, &connected);
    ok(
        &mut out,
        &Connected {
            resumed: true,
            conversations: Some(
                [(
                    "team".into(),
                    ResumedConversation {
                        head: 70_000,
                        replayed: 3,
                        truncated: false,
                        log: "1f-a0".into(),
                        reset: true,
                    },
                )]
                .into(),
            ),
            topics: Some([("news".into(), subscribed.clone())].into()),
            gone: Some(vec!["old".into()]),
            ..connected
        },
    );
    ok(&mut out, &Refreshed { expires_at: AT });
    ok(&mut out, &Created { conversation: "team".into(), created: true });
    ok(
        &mut out,
        &Joined {
            head: 12,
            replayed: 0,
            truncated: false,
            log: "1f-a0".into(),
            reset: false,
            online: vec!["ada".into(), "bob".into()],
            reads: [("ada".into(), 12)].into(),
        },
    );
    ok(&mut out, &Empty {});
    ok(&mut out, &Sent { id: ID, seq: 13, at: AT, duplicate: false });
    let message = Message {
        conversation: "team".into(),
        seq: 13,
        id: ID,
        sender: "ada".into(),
        role: "user",
        content: "Hi \"all\"\n".into(),
        metadata: Some(Json::from_compact(
            r#"{"a":[1,-1,0.5,18446744073709551615,-9223372036854775808,null,true]}"#,
        )),
        at: AT,
    };
    let plain = Message { metadata: None, seq: 14, ..message.clone() };
    ok(&mut out, &HistoryPage { messages: vec![message, plain], more: true });
    ok(
        &mut out,
        &PresenceList {
            users: vec![
                PresenceUser { user: "ada".into(), online: true, devices: 2, last_seen: None },
                PresenceUser { user: "bob".into(), online: false, devices: 0, last_seen: Some(AT) },
            ],
        },
    );
    ok(&mut out, &subscribed);
    ok(&mut out, &Published { epoch: "e1".into(), offset: 301 });
    insta::assert_snapshot!(out);
}

#[test]
fn errors() {
    let mut out = String::new();
    for (code, retry_after_ms) in [
        (ErrorCode::BadRequest, None),
        (ErrorCode::Unauthorized, None),
        (ErrorCode::Forbidden, None),
        (ErrorCode::NotFound, None),
        (ErrorCode::Conflict, None),
        (ErrorCode::TooLarge, None),
        (ErrorCode::RateLimited, Some(1500)),
        (ErrorCode::Unavailable, Some(200)),
        (ErrorCode::Internal, None),
    ] {
        let error = ErrorBody { code, message: "why".into(), retry_after_ms };
        show(&mut out, &encode_error(Encoding::Json, 7, &error), &encode_error(Encoding::MsgPack, 7, &error));
        // The HTTP side writes the same object with serde.
        let object = serde_json::to_string(&error).unwrap();
        assert!(
            std::str::from_utf8(&encode_error(Encoding::Json, 7, &error))
                .unwrap()
                .ends_with(&format!("{object}}}"))
        );
    }
    insta::assert_snapshot!(out);
}

#[test]
fn events() {
    let mut out = String::new();
    let (conversation, user) = (ConversationName::from("team"), UserName::from("ada"));
    let metadata = Json::from_compact(r#"{"a":1.5e300,"b":{"c":[]}}"#);
    let message = Message {
        conversation: conversation.clone(),
        seq: 9_007_199_254_740_991,
        id: ID,
        sender: "ada".into(),
        role: "assistant",
        content: "quote \" backslash \\ tab \t bell \u{7} é 😀".into(),
        metadata: None,
        at: AT,
    };
    let presence = |online, last_seen| Presence {
        conversation: conversation.clone(),
        user: user.clone(),
        online,
        last_seen,
    };
    let updated = |title, metadata| Updated { conversation: conversation.clone(), title, metadata };
    let publication = |offset, data, sender| Publication { topic: "news".into(), offset, data, sender };
    let all: [Event; 13] = [
        message.clone().into(),
        Message { metadata: Some(metadata.clone()), ..message }.into(),
        ReadMark { conversation: conversation.clone(), user: user.clone(), seq: 128 }.into(),
        Typing { conversation: conversation.clone(), user: user.clone(), typing: true }.into(),
        presence(true, None).into(),
        presence(false, Some(AT)).into(),
        Membership { conversation: conversation.clone(), user: user.clone(), member: false }.into(),
        updated(None, None).into(),
        updated(Some("Tea \"club\"".into()), Some(metadata.clone())).into(),
        Deleted { conversation: conversation.clone(), log: "1f-a0".into() }.into(),
        publication(1, metadata, Some(user.clone())).into(),
        publication(2, Json::from_compact("null"), None).into(),
        Draining { reconnect_after_ms: 65_536 }.into(),
    ];
    for shown in &all {
        event(&mut out, shown);
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_value_in_the_log_that_is_no_json_does_not_break_a_frame() {
    let broken = Json::from_compact("{oops");
    let page = |metadata| HistoryPage {
        messages: vec![Message {
            conversation: "c".into(),
            seq: 1,
            id: 0,
            sender: "a".into(),
            role: "user",
            content: "x".into(),
            metadata,
            at: AT,
        }],
        more: false,
    };
    for encoding in [Encoding::Json, Encoding::MsgPack] {
        let answer = encode_ok(encoding, 3, &page(Some(broken.clone())));
        let error = ErrorBody {
            code: ErrorCode::Internal,
            message: "the answer could not be encoded".into(),
            retry_after_ms: None,
        };
        assert_eq!(answer, encode_error(encoding, 3, &error));
    }
    let event = Publication { topic: "t".into(), offset: 1, data: broken, sender: None }.into();
    let map: serde_json::Value = rmp_serde::from_slice(&encode_event(Encoding::MsgPack, &event)).unwrap();
    assert_eq!(map["data"], serde_json::Value::Null);
}

#[test]
fn a_finished_frame_gives_its_payload_without_a_copy() {
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        let payload = vec![b'x'; length];
        let frame = frame(Encoding::Json, &payload);
        let given = payload_of(&frame);
        assert_eq!(given, Bytes::from(payload));
        assert_eq!(given.as_ptr_range().end, frame.as_ptr_range().end);
    }
}

#[test]
fn long_lists_are_carried_over_to_messagepack() {
    for count in [0, 15, 16, 65_535, 65_536] {
        let list = Joined {
            head: 0,
            replayed: 0,
            truncated: false,
            log: "".into(),
            reset: false,
            online: vec!["u".into(); count],
            reads: (0..count.min(70_000)).map(|n| (format!("u{n}").into(), n as u64)).collect(),
        };
        let mut shown = String::new();
        ok(&mut shown, &list);
        assert!(shown.len() > count);
    }
}

mod transcoding {
    use proptest::prelude::*;
    use serde_json::{Number, Value};
    use starling_wire::protocol::*;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<u64>().prop_map(Number::from),
            any::<i64>().prop_map(Number::from),
            (-200i64..300).prop_map(Number::from),
            any::<f64>().prop_filter_map("finite", Number::from_f64),
        ];
        // Text without U+0000, which no frame may hold.
        let text = || "[\u{1}-\u{10ffff}]{0,40}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(Value::Number),
            text().prop_map(Value::String),
        ];
        leaf.prop_recursive(5, 60, 20, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                prop::collection::vec((text(), inner), 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_goes_to_messagepack_and_back(value in value()) {
            let json = value.to_string();
            let msgpack = json_to_msgpack(&json).unwrap();
            // As an independent reader understands it.
            prop_assert_eq!(&rmp_serde::from_slice::<Value>(&msgpack).unwrap(), &value);
            // As an independent writer would write it.
            prop_assert_eq!(rmp_serde::to_vec(&value).unwrap().len(), msgpack.len());
            // And back through a frame, to the last bit of each number.
            let mut frame = b"\x84\xa2id\x01\xa2op\xa7publish\xa5topic\xa1t\xa4data".to_vec();
            frame.extend_from_slice(&msgpack);
            let Ok(Command::Publish { data, .. }) = decode(Encoding::MsgPack, &frame).unwrap().command else {
                panic!("not accepted: {json}")
            };
            prop_assert_eq!(json_to_msgpack(data.as_str()).unwrap(), msgpack);
        }

        #[test]
        fn both_encodings_of_a_command_mean_the_same(value in value(), content: String, key in ".{1,64}", id in 1u64..1 << 53) {
            let frame = serde_json::json!({
                "id": id, "op": "send", "conversation": "c", "key": key, "content": content, "metadata": { "v": value },
            });
            let from_json = decode(Encoding::Json, frame.to_string().as_bytes());
            let from_msgpack = decode(Encoding::MsgPack, &rmp_serde::to_vec(&frame).unwrap());
            prop_assert_eq!(from_json.clone().unwrap().id, id);
            match (from_json.unwrap().command, from_msgpack.unwrap().command) {
                (Ok(Command::Send(ours)), Ok(Command::Send(theirs))) => {
                    prop_assert_eq!(&ours.content, &theirs.content);
                    prop_assert_eq!(&ours.key, &theirs.key);
                    let [ours, theirs] = [ours, theirs].map(|send| json_to_msgpack(send.metadata.unwrap().as_str()));
                    prop_assert_eq!(ours, theirs);
                }
                (Err(ours), Err(theirs)) => prop_assert_eq!(ours, theirs),
                (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours, theirs),
            }
        }

        #[test]
        fn no_text_makes_transcoding_panic(text in ".{0,60}") {
            let _ = json_to_msgpack(&text);
        }
    }
}

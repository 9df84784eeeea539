//! Valid and invalid frames of the protocol.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Message};

use crate::place::{Place, everywhere};
use crate::talk::Talk;

const MAX_ID: u64 = (1 << 53) - 1;

#[test]
fn what_is_no_object_closes_with_4400() {
    everywhere(async |place| {
        for value in [json!([]), json!("ping"), json!(1), json!(null), json!([{"id": 1, "op": "ping"}])] {
            assert_closes(place, frame_of(place, &value), 4400).await;
        }
        let garbage = match place.encoding {
            Encoding::Json => {
                vec![Message::text(""), Message::text("{"), Message::text(r#"{"id":1,"op":ping}"#)]
            }
            Encoding::MessagePack => {
                vec![Message::binary(vec![]), Message::binary(vec![0x81]), Message::binary(vec![0xc1])]
            }
        };
        for message in garbage {
            assert_closes(place, message, 4400).await;
        }
    });
}

#[test]
fn a_frame_without_a_usable_id_closes_with_4400() {
    everywhere(async |place| {
        assert_closes(place, frame_of(place, &json!({"op": "ping"})), 4400).await;
        for id in [json!(0), json!(-1), json!(MAX_ID + 1), json!(1.5), json!("1"), json!(null), json!([1])] {
            assert_closes(place, frame_of(place, &json!({"id": id, "op": "ping"})), 4400).await;
        }
    });
}

#[test]
fn what_is_no_frame_closes_with_4400_before_connect_too() {
    everywhere(async |place| {
        let mut client = place.socket(0).await;
        client.send_value(&json!({"op": "ping"})).await.unwrap();
        assert_eq!(client.close_code().await, Some(4400));
    });
}

#[test]
fn an_integer_that_is_written_as_a_double_is_an_integer() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        for id in [5, (1 << 32) + 1, MAX_ID] {
            // `5.0` in JSON, a float 64 in MessagePack.
            ada.send_value(&json!({"id": id as f64, "op": "ping"})).await.unwrap();
            assert_eq!(ada.frame().await, json!({"id": id, "ok": {}}));
        }
        ada.ask("create", json!({"conversation": "doubles"})).await;
        ada.ask("send", json!({"conversation": "doubles", "key": "k", "content": "x"})).await;
        assert_eq!(ada.ask("join", json!({"conversation": "doubles", "after": 0.0})).await["replayed"], 1);
        ada.ask("read", json!({"conversation": "doubles", "seq": 1.0})).await;
        let page = ada.ask("history", json!({"conversation": "doubles", "limit": 10.0, "before": 2.0})).await;
        assert_eq!(page["messages"][0]["seq"], 1);
        for half in [0.5, 1e16, -1.0] {
            let read = json!({"conversation": "doubles", "seq": half});
            assert_eq!(ada.refused("read", read).await, "bad_request", "{half}");
        }
    });
}

#[test]
fn the_smallest_and_the_largest_id_are_answered_and_ids_may_repeat() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        for id in [1, MAX_ID, 7, 7] {
            ada.send_value(&json!({"id": id, "op": "ping"})).await.unwrap();
            assert_eq!(ada.frame().await, json!({"id": id, "ok": {}}));
        }
    });
}

#[test]
fn bytes_after_the_object_close_with_4400() {
    everywhere(async |place| {
        let message = match frame_of(place, &json!({"id": 1, "op": "ping"})) {
            Message::Text(text) => Message::text(format!("{text}{{}}")),
            Message::Binary(bytes) => Message::binary([&bytes[..], &[0x80]].concat()),
            other => panic!("{other:?}"),
        };
        assert_closes(place, message, 4400).await;
    });
}

#[test]
fn white_space_around_json_is_harmless() {
    everywhere(async |place| {
        if place.encoding == Encoding::Json {
            let mut ada = place.connect(0, "ada").await;
            ada.send_raw(Message::text(" \r\n\t{ \"id\" : 3 , \"op\" : \"ping\" } \n")).await.unwrap();
            assert_eq!(ada.frame().await, json!({"id": 3, "ok": {}}));
        }
    });
}

#[test]
fn an_unknown_or_missing_op_is_a_bad_request_and_the_connection_goes_on() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        for frame in [
            json!({"id": 5, "op": "fly"}),
            json!({"id": 5}),
            json!({"id": 5, "op": 1}),
            json!({"id": 5, "op": null}),
            json!({"id": 5, "op": "Ping"}),
            json!({"id": 5, "op": "draft", "conversation": "c"}),
        ] {
            ada.send_value(&frame).await.unwrap();
            let reply = ada.frame().await;
            assert_eq!(
                (&reply["id"], &reply["error"]["code"]),
                (&json!(5), &json!("bad_request")),
                "{frame}"
            );
            assert!(reply["error"]["message"].is_string() && reply.get("ok").is_none(), "{reply}");
        }
        ada.ask("ping", json!({})).await;
    });
}

#[test]
fn fields_of_the_wrong_type_are_bad_requests_and_nothing_happens() {
    everywhere(async |place| {
        let (mut ada, _bob) = place.members("c").await;
        let send = |extra: Value| merged(json!({"conversation": "c", "key": "k", "content": "hi"}), extra);
        let bad = [
            ("send", send(json!({"conversation": 1}))),
            ("send", send(json!({"key": 1}))),
            ("send", send(json!({"key": ""}))),
            ("send", send(json!({"key": "k".repeat(65)}))),
            ("send", send(json!({"content": null}))),
            ("send", send(json!({"content": ["hi"]}))),
            ("send", send(json!({"metadata": "x"}))),
            ("send", send(json!({"metadata": []}))),
            ("send", json!({"conversation": "c", "content": "hi"})),
            ("send", json!({"conversation": "c", "key": "k"})),
            ("send", json!({"key": "k", "content": "hi"})),
            ("create", json!({"conversation": 5})),
            ("create", json!({"conversation": "d", "members": "bob"})),
            ("create", json!({"conversation": "d", "members": ["bob", 1]})),
            ("create", json!({"conversation": "d", "members": ["no name"]})),
            ("create", json!({"conversation": "d", "title": 1})),
            ("create", json!({"conversation": "d", "metadata": 1})),
            ("join", json!({})),
            ("join", json!({"conversation": "c", "after": "1"})),
            ("join", json!({"conversation": "c", "after": -1})),
            ("join", json!({"conversation": "c", "after": 1.5})),
            ("leave", json!({})),
            ("history", json!({"conversation": "c", "limit": 0})),
            ("history", json!({"conversation": "c", "limit": 201})),
            ("history", json!({"conversation": "c", "limit": "9"})),
            ("history", json!({"conversation": "c", "before": true})),
            ("history", json!({"conversation": "c", "before": 5, "after": 1})),
            ("read", json!({"conversation": "c"})),
            ("read", json!({"conversation": "c", "seq": "1"})),
            ("typing", json!({"conversation": "c"})),
            ("typing", json!({"conversation": "c", "typing": 1})),
            ("presence", json!({"conversation": ["c"]})),
            ("subscribe", json!({})),
            ("subscribe", json!({"topic": "t", "since": 1})),
            ("subscribe", json!({"topic": "t", "since": {"epoch": "e"}})),
            ("subscribe", json!({"topic": "t", "since": {"epoch": 1, "offset": 1}})),
            ("unsubscribe", json!({"topic": 1})),
            ("publish", json!({"topic": "t"})),
            ("publish", json!({"data": 1})),
            ("refresh", json!({})),
            ("refresh", json!({"token": 1})),
        ];
        for (op, fields) in bad {
            assert_eq!(ada.refused(op, fields.clone()).await, "bad_request", "{op} {fields}");
        }
        assert_eq!(ada.ask("history", json!({"conversation": "c"})).await["messages"], json!([]));
        assert_eq!(ada.refused("join", json!({"conversation": "d"})).await, "not_found");
    });
}

#[test]
fn a_resume_of_the_wrong_shape_is_a_bad_request() {
    everywhere(async |place| {
        for resume in [
            json!(1),
            json!({"session": "s", "ticket": "t"}),
            json!({"session": 1, "ticket": "t", "cursors": {}}),
            json!({"session": "s", "ticket": "t", "cursors": {"c": "1"}}),
            json!({"session": "s", "ticket": "t", "cursors": [], "topics": {}}),
            json!({"session": "s", "ticket": "t", "cursors": {}, "topics": {"t": 1}}),
        ] {
            let mut client = place.socket(0).await;
            let fields = json!({"token": place.token("ada"), "resume": resume});
            assert_eq!(client.refused("connect", fields).await, "bad_request", "{resume}");
            // The client may try again on the same connection.
            client.hello(json!({"token": place.token("ada")})).await.unwrap();
        }
    });
}

#[test]
fn unknown_fields_are_ignored() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let extra = json!({"conversation": "c", "future": {"deep": [1, null, {"x": "y"}]}, "seq": 5, "colour": "red"});
        assert_eq!(ada.ask("create", extra).await, json!({"conversation": "c", "created": true}));
        assert_eq!(ada.ask("ping", json!({"data": [1], "id2": 2})).await, json!({}));
    });
}

#[test]
fn names_are_of_1_to_100_allowed_characters() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let longest = "n".repeat(100);
        for name in ["a", "A-Za-z0-9_.:@-", "...", "-", &longest] {
            assert_eq!(ada.ask("create", json!({"conversation": name})).await["created"], true, "{name}");
            ada.ask("publish", json!({"topic": name, "data": 1})).await;
        }
        let too_long = "n".repeat(101);
        for name in ["", ".", "..", "a b", "a/b", "é", "a\u{0}", "a\n", &too_long] {
            assert_eq!(ada.refused("create", json!({"conversation": name})).await, "bad_request", "{name:?}");
            assert_eq!(ada.refused("join", json!({"conversation": name})).await, "bad_request", "{name:?}");
            assert_eq!(ada.refused("subscribe", json!({"topic": name})).await, "bad_request", "{name:?}");
        }
    });
}

#[test]
fn text_with_u_0000_is_a_bad_request() {
    everywhere(async |place| {
        let (mut ada, _bob) = place.members("c").await;
        let nul = "a\u{0}b";
        for fields in [
            json!({"conversation": "c", "key": "k", "content": nul}),
            json!({"conversation": "c", "key": nul, "content": "hi"}),
            json!({"conversation": "c", "key": "k", "content": "hi", "metadata": {"x": nul}}),
            json!({"conversation": "c", "key": "k", "content": "hi", "metadata": {nul: 1}}),
        ] {
            assert_eq!(ada.refused("send", fields).await, "bad_request");
        }
        assert_eq!(ada.refused("create", json!({"conversation": "d", "title": nul})).await, "bad_request");
        assert_eq!(ada.refused("publish", json!({"topic": "t", "data": [nul]})).await, "bad_request");
        ada.ask("ping", json!({})).await;
    });
}

#[test]
fn sizes_are_bounded_to_the_byte() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let largest = "é".repeat(32 * 1024);
        ada.say("c", &largest).await;
        assert_eq!(bob.event("message", |_| true).await["content"], json!(largest));
        let send = |content: &str, metadata: Value| json!({"conversation": "c", "key": "k", "content": content, "metadata": metadata});
        assert_eq!(ada.refused("send", send(&format!("{largest}x"), json!({}))).await, "too_large");
        // `{"x":""}` is 8 bytes.
        let metadata = |bytes: usize| json!({"x": "m".repeat(bytes - 8)});
        assert_eq!(ada.refused("send", send("hi", metadata(16 * 1024 + 1))).await, "too_large");
        ada.ask("send", send("hi", metadata(16 * 1024))).await;
        assert_eq!(bob.event("message", |_| true).await["metadata"], metadata(16 * 1024));
        let data = |bytes: usize| json!("d".repeat(bytes - 2));
        ada.ask("publish", json!({"topic": "t", "data": data(64 * 1024)})).await;
        let too_large = json!({"topic": "t", "data": data(64 * 1024 + 1)});
        assert_eq!(ada.refused("publish", too_large).await, "too_large");
    });
}

#[test]
fn a_frame_may_be_128_kib_and_no_more() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let of =
            |padding: usize| frame_of(place, &json!({"id": 9, "op": "ping", "pad": "p".repeat(padding)}));
        let overhead = of(100_000).len() - 100_000;
        ada.send_raw(of(128 * 1024 - overhead)).await.unwrap();
        assert_eq!(ada.frame().await, json!({"id": 9, "ok": {}}));
        let _ = ada.send_raw(of(128 * 1024 - overhead + 1)).await;
        assert_eq!(ada.close_code().await, Some(1009));
    });
}

#[test]
fn frames_of_the_other_kind_close_with_1003() {
    everywhere(async |place| {
        let text = r#"{"id":1,"op":"ping"}"#;
        let message = match place.encoding {
            Encoding::Json => Message::binary(text.as_bytes().to_vec()),
            Encoding::MessagePack => Message::text(text),
        };
        assert_closes(place, message, 1003).await;
    });
}

#[test]
fn messagepack_that_json_lacks_is_a_bad_request() {
    everywhere(async |place| {
        if place.encoding == Encoding::MessagePack {
            let mut ada = place.connect(0, "ada").await;
            let values: [(&str, &[u8]); 7] = [
                ("bin", &[0xc4, 1, 0]),
                ("fixext", &[0xd4, 5, 0]),
                ("a timestamp", &[0xd6, 0xff, 0, 0, 0, 0]),
                ("NaN", &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
                ("infinity", &[0xca, 0x7f, 0x80, 0, 0]),
                ("a key that is an integer", &[0x81, 1, 1]),
                ("bin within an array", &[0x91, 0xc4, 0]),
            ];
            for (what, value) in values {
                // {"id": 9, "op": "publish", "topic": "t", "data": value}
                let head = b"\x84\xa2id\x09\xa2op\xa7publish\xa5topic\xa1t\xa4data";
                ada.send_raw(Message::binary([head, value].concat())).await.unwrap();
                let reply = ada.frame().await;
                assert_eq!(
                    (&reply["id"], &reply["error"]["code"]),
                    (&json!(9), &json!("bad_request")),
                    "{what}"
                );
            }
            ada.ask("ping", json!({})).await;
        }
    });
}

#[test]
fn messagepack_integers_may_have_any_width() {
    everywhere(async |place| {
        if place.encoding == Encoding::MessagePack {
            let mut ada = place.connect(0, "ada").await;
            let ids: [&[u8]; 6] = [
                &[9],
                &[0xcc, 9],
                &[0xcd, 0, 9],
                &[0xcf, 0, 0, 0, 0, 0, 0, 0, 9],
                &[0xd0, 9],
                &[0xd3, 0, 0, 0, 0, 0, 0, 0, 9],
            ];
            for id in ids {
                let frame = [b"\x82\xa2id", id, b"\xa2op\xa4ping"].concat();
                ada.send_raw(Message::binary(frame)).await.unwrap();
                assert_eq!(ada.frame().await, json!({"id": 9, "ok": {}}), "{id:02x?}");
            }
        }
    });
}

fn frame_of(place: &Place, value: &Value) -> Message {
    place.encoding.encode(value).unwrap()
}

/// Sends a message as a new client and checks that its connection closes, and another one stays open.
async fn assert_closes(place: &Place, message: Message, code: u16) {
    let shown = format!("{message:?}");
    let (mut client, mut neighbour) = (place.connect(0, "ada").await, place.connect(0, "bob").await);
    send(&mut client, message).await;
    assert_eq!(client.close_code().await, Some(code), "{shown}");
    neighbour.ask("ping", json!({})).await;
}

async fn send(client: &mut Client, message: Message) {
    client.send_raw(message).await.unwrap();
}

fn merged(mut fields: Value, extra: Value) -> Value {
    if let (Some(fields), Value::Object(extra)) = (fields.as_object_mut(), extra) {
        fields.extend(extra);
    }
    fields
}

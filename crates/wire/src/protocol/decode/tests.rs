use super::super::*;

/// A command in both encodings: the JSON as it stands, and transcoded.
fn both(json: &str) -> [Result<Request, NotAFrame>; 2] {
    [decode(Encoding::Json, json.as_bytes()), decode(Encoding::MsgPack, &json_to_msgpack(json).unwrap())]
}

fn accepted(json: &str) -> Command {
    let [from_json, from_msgpack] = both(json);
    assert_eq!(from_json, from_msgpack, "{json}");
    from_json.unwrap().command.unwrap_or_else(|bad| panic!("{json}: {}", bad.message))
}

fn refused(json: &str) -> BadRequest {
    let [from_json, from_msgpack] = both(json);
    assert_eq!(from_json, from_msgpack, "{json}");
    from_json.unwrap().command.expect_err(json)
}

fn refused_bytes(encoding: Encoding, frame: &[u8]) -> String {
    decode(encoding, frame).unwrap().command.unwrap_err().message
}

fn json(text: &str) -> Json {
    Json::from_compact(text)
}

#[test]
fn every_command_is_read() {
    let position = |offset| TopicPosition { epoch: "e".into(), offset };
    for (frame, command) in [
        (r#"{"id":1,"op":"connect"}"#, Command::Connect(Connect::default())),
        (
            r#"{"id":1,"op":"connect","token":"t","resume":{"session":"s","ticket":"k","cursors":{"a":0,"b":7},"topics":{"n":{"epoch":"e","offset":3}}}}"#,
            Command::Connect(Connect {
                token: Some("t".into()),
                resume: Some(Resume {
                    session: "s".into(),
                    ticket: "k".into(),
                    cursors: [("a".to_owned(), 0), ("b".to_owned(), 7)].into(),
                    topics: [("n".to_owned(), position(3))].into(),
                }),
            }),
        ),
        (r#"{"id":1,"op":"refresh","token":"t"}"#, Command::Refresh { token: "t".into() }),
        (r#"{"id":1,"op":"create"}"#, Command::Create(Create::default())),
        (
            r#"{"id":1,"op":"create","conversation":"c","title":"T","members":["a","b"],"metadata":{}}"#,
            Command::Create(Create {
                conversation: Some("c".into()),
                title: Some("T".into()),
                members: vec!["a".into(), "b".into()],
                metadata: Some(json("{}")),
            }),
        ),
        (
            r#"{"id":1,"op":"join","conversation":"c","after":0}"#,
            Command::Join { conversation: "c".into(), after: Some(0) },
        ),
        (
            r#"{"id":1,"op":"join","conversation":"c"}"#,
            Command::Join { conversation: "c".into(), after: None },
        ),
        (r#"{"id":1,"op":"leave","conversation":"c"}"#, Command::Leave { conversation: "c".into() }),
        (
            r#"{"id":1,"op":"send","conversation":"c","key":"k","content":"a\n\"b\"😀","metadata":{"a":[1,-2,0.5,null,true]}}"#,
            Command::Send(Send {
                conversation: "c".into(),
                key: "k".into(),
                content: "a\n\"b\"😀".into(),
                metadata: Some(json(r#"{"a":[1,-2,0.5,null,true]}"#)),
            }),
        ),
        (
            r#"{"id":1,"op":"history","conversation":"c"}"#,
            Command::History(History { conversation: "c".into(), before: None, after: None, limit: 50 }),
        ),
        (
            r#"{"id":1,"op":"history","conversation":"c","before":9,"limit":200}"#,
            Command::History(History { conversation: "c".into(), before: Some(9), after: None, limit: 200 }),
        ),
        (
            r#"{"id":1,"op":"read","conversation":"c","seq":3}"#,
            Command::Read { conversation: "c".into(), seq: 3 },
        ),
        (
            r#"{"id":1,"op":"typing","conversation":"c","typing":false}"#,
            Command::Typing { conversation: "c".into(), typing: false },
        ),
        (r#"{"id":1,"op":"presence","conversation":"c"}"#, Command::Presence { conversation: "c".into() }),
        (r#"{"id":1,"op":"subscribe","topic":"t"}"#, Command::Subscribe { topic: "t".into(), since: None }),
        (
            r#"{"id":1,"op":"subscribe","topic":"t","since":{"epoch":"e","offset":5}}"#,
            Command::Subscribe { topic: "t".into(), since: Some(position(5)) },
        ),
        (r#"{"id":1,"op":"unsubscribe","topic":"t"}"#, Command::Unsubscribe { topic: "t".into() }),
        (
            r#"{"id":1,"op":"publish","topic":"t","data":null}"#,
            Command::Publish { topic: "t".into(), data: json("null") },
        ),
        (r#"{"id":1,"op":"ping"}"#, Command::Ping),
    ] {
        assert_eq!(accepted(frame), command, "{frame}");
    }
}

use super::super::*;
use super::fields::Fields;

/// Decodes a command in both encodings: from this JSON, and from its transcoded form.
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
            r#"{"id":1,"op":"connect","token":"t","resume":{"session":"s","ticket":"k","cursors":{"a":0,"b":7,"d":{"seq":9,"log":"5-x"},"e":{"log":null,"seq":4,"x":[1]}},"topics":{"n":{"epoch":"e","offset":3}}}}"#,
            Command::Connect(Connect {
                token: Some("t".into()),
                resume: Some(Resume {
                    session: "s".into(),
                    ticket: "k".into(),
                    cursors: [
                        ("a".into(), Cursor { seq: 0, log: None }),
                        ("b".into(), Cursor { seq: 7, log: None }),
                        ("d".into(), Cursor { seq: 9, log: Some("5-x".to_owned()) }),
                        ("e".into(), Cursor { seq: 4, log: None }),
                    ]
                    .into(),
                    topics: [("n".into(), position(3))].into(),
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
            Command::Join { conversation: "c".into(), after: Some(0), log: None },
        ),
        (
            r#"{"id":1,"op":"join","conversation":"c","after":7,"log":"5-x"}"#,
            Command::Join { conversation: "c".into(), after: Some(7), log: Some("5-x".into()) },
        ),
        (
            r#"{"id":1,"op":"join","conversation":"c"}"#,
            Command::Join { conversation: "c".into(), after: None, log: None },
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
        (r#"{"id":1,"op":"ping"}"#, Command::Ping {}),
    ] {
        assert_eq!(accepted(frame), command, "{frame}");
    }
}

/// Returns a valid value of a field.
fn sample(field: &str) -> &'static str {
    match field {
        "conversation" | "topic" | "key" | "content" | "token" | "log" | "title" | "sender" => r#""x""#,
        "role" => r#""user""#,
        "metadata" => "{}",
        "data" => "null",
        "seq" | "before" | "after" | "limit" => "7",
        "typing" => "true",
        "members" => r#"["x"]"#,
        "since" => r#"{"epoch":"e","offset":1}"#,
        "resume" => r#"{"session":"s","ticket":"t","cursors":{}}"#,
        _ => panic!("`{field}` needs a sample here"),
    }
}

#[test]
fn each_command_reads_the_fields_that_are_listed_for_it_and_no_others() {
    let fields = || Fields::NAMES.iter().filter(|field| !matches!(**field, "id" | "op"));
    for operation in Operation::ALL {
        let op = operation.name();
        for field in fields() {
            // `before` and `after` exclude each other. Every value of `data` is valid, but the field is required.
            let others = fields().filter(|other| *other != field && **other != "before");
            let mut frame = format!(r#"{{"id":1,"op":"{op}""#);
            others.for_each(|other| frame += &format!(r#","{other}":{}"#, sample(other)));
            if *field != "data" {
                frame += &format!(r#","{field}":[true]"#);
            }
            frame += "}";
            let command = decode(Encoding::Json, frame.as_bytes()).unwrap().command;
            let is_read = command.is_err_and(|bad| bad.message.starts_with(&format!("`{field}` ")));
            let is_listed = operation.fields().contains(field);
            assert_eq!(is_read, is_listed, "`{field}` of `{op}`: read, and listed in command.rs");
        }
        for field in operation.fields() {
            assert!(
                Fields::NAMES.contains(field),
                "`{op}` has a field `{field}` that decode/fields.rs does not read"
            );
        }
    }
}

#[test]
fn every_command_is_found_by_its_name() {
    for (index, operation) in Operation::ALL.iter().enumerate() {
        assert_eq!((Operation::parse(operation.name()), *operation as usize), (Some(*operation), index));
    }
}

#[test]
fn a_bad_field_is_named() {
    let long = "x".repeat(KEY_CHARS_MAX + 1);
    for (rest, field) in [
        (r#""op":7"#, "`op` must be a string"),
        (r#""op":null"#, "`op` must be a string"),
        (r#""x":1"#, "`op` is missing"),
        (r#""op":"fly""#, "there is no `op` \"fly\""),
        (r#""op":"join""#, "`conversation` is missing"),
        (r#""op":"join","conversation":null"#, "`conversation` must be a string"),
        (r#""op":"join","conversation":["c"]"#, "`conversation` must be a string"),
        (r#""op":"join","conversation":"a b""#, "`conversation` must be a name"),
        (r#""op":"join","conversation":"..""#, "`conversation` must be a name"),
        (r#""op":"join","conversation":"""#, "`conversation` must be a name"),
        (r#""op":"join","conversation":"c","after":"1""#, "`after` must be an integer"),
        (r#""op":"join","conversation":"c","after":-1"#, "`after` must be an integer"),
        (r#""op":"join","conversation":"c","after":1.5"#, "`after` must be an integer"),
        (r#""op":"join","conversation":"c","after":9007199254740992"#, "`after` must be an integer"),
        (r#""op":"join","conversation":"c","after":99999999999999999999"#, "`after` must be an integer"),
        (r#""op":"send","conversation":"c","content":"x""#, "`key` is missing"),
        (r#""op":"send","conversation":"c","key":"","content":"x""#, "`key` must have from 1 to 64"),
        (
            &format!(r#""op":"send","conversation":"c","key":"{long}","content":"x""#),
            "`key` must have from 1 to 64",
        ),
        (r#""op":"send","conversation":"c","key":"k""#, "`content` is missing"),
        (r#""op":"send","conversation":"c","key":"k","content":{}"#, "`content` must be a string"),
        (r#""op":"send","conversation":"c","key":"k","content":"\u0000""#, "`content` can't hold U+0000"),
        (r#""op":"send","conversation":"c","key":"a\u0000b","content":"x""#, "`key` can't hold U+0000"),
        (
            r#""op":"send","conversation":"c","key":"k","content":"x","metadata":[]"#,
            "`metadata` must be an object",
        ),
        (
            r#""op":"send","conversation":"c","key":"k","content":"x","metadata":{"a":"\u0000"}"#,
            "`metadata` can't hold",
        ),
        (
            r#""op":"send","conversation":"c","key":"k","content":"x","metadata":{"\u0000":1}"#,
            "`metadata` can't hold",
        ),
        (r#""op":"history","conversation":"c","limit":0"#, "`limit` must be an integer from 1 to 200"),
        (r#""op":"history","conversation":"c","limit":201"#, "`limit` must be an integer from 1 to 200"),
        (r#""op":"history","conversation":"c","limit":"9""#, "`limit` must be an integer from 1 to 200"),
        (r#""op":"history","conversation":"c","before":1,"after":1"#, "only one of `before` and `after`"),
        (r#""op":"read","conversation":"c""#, "`seq` is missing"),
        (r#""op":"typing","conversation":"c","typing":1"#, "`typing` must be true or false"),
        (r#""op":"create","members":"a""#, "`members` must be an array of names"),
        (r#""op":"create","members":["a",1]"#, "`members` must be an array of names"),
        (r#""op":"create","members":["a","é"]"#, "`members` must hold names"),
        (r#""op":"subscribe","topic":"t","since":{"epoch":"e"}"#, "`since.offset` is missing"),
        (r#""op":"subscribe","topic":"t","since":7"#, "`since` must be an object"),
        (r#""op":"publish","topic":"t""#, "`data` is missing"),
        (r#""op":"publish","topic":"t","data":["\u0000"]"#, "`data` can't hold U+0000"),
        (r#""op":"refresh""#, "`token` is missing"),
        (r#""op":"connect","resume":1"#, "`resume` must be an object"),
        (r#""op":"connect","resume":{"ticket":"t","cursors":{}}"#, "`resume.session` is missing"),
        (r#""op":"connect","resume":{"session":"s","cursors":{}}"#, "`resume.ticket` is missing"),
        (r#""op":"connect","resume":{"session":"s","ticket":"t"}"#, "`resume.cursors` is missing"),
        (
            r#""op":"connect","resume":{"session":"s","ticket":"t","cursors":{"c":"1"}}"#,
            "`resume.cursors` must be",
        ),
        (
            r#""op":"connect","resume":{"session":"s","ticket":"t","cursors":{"c":{"log":"l"}}}"#,
            "`resume.cursors` must be",
        ),
        (
            r#""op":"connect","resume":{"session":"s","ticket":"t","cursors":{"c":{"seq":1,"log":2}}}"#,
            "`resume.cursors` must be",
        ),
        (
            r#""op":"join","conversation":"c","after":1,"log":"123456789012345678901234567890123""#,
            "`log` must be a string of at most 32 characters",
        ),
        (
            r#""op":"connect","resume":{"session":"s","ticket":"t","cursors":{"a b":1}}"#,
            "`resume.cursors` must hold names",
        ),
        (
            r#""op":"connect","resume":{"session":"s","ticket":"t","cursors":{},"topics":{"t":{"epoch":"e"}}}"#,
            "`resume.topics` must be an object of {epoch, offset}",
        ),
    ] {
        let bad = refused(&format!(r#"{{"id":9,{rest}}}"#));
        assert_eq!(bad.code, ErrorCode::BadRequest, "{rest}");
        assert!(bad.message.starts_with(field), "{rest}: {}", bad.message);
    }
}

#[test]
fn sizes_hold_to_the_byte() {
    let send = |content: usize, metadata: usize| {
        let (content, metadata) = ("x".repeat(content), "y".repeat(metadata - r#"{"a":""}"#.len()));
        format!(
            r#"{{"id":1,"op":"send","conversation":"c","key":"k","content":"{content}","metadata":{{"a":"{metadata}"}}}}"#
        )
    };
    let publish =
        |data: usize| format!(r#"{{"id":1,"op":"publish","topic":"t","data":"{}"}}"#, "x".repeat(data - 2));
    let title = |title: usize| format!(r#"{{"id":1,"op":"create","title":"{}"}}"#, "x".repeat(title));
    let members =
        |count: usize| format!(r#"{{"id":1,"op":"create","members":[{}]}}"#, vec![r#""m""#; count].join(","));
    let resume = |cursors: usize, topics: usize| {
        let cursors: Vec<_> = (0..cursors).map(|n| format!(r#""c{n}":{n}"#)).collect();
        let topics: Vec<_> = (0..topics).map(|n| format!(r#""t{n}":{{"epoch":"e","offset":1}}"#)).collect();
        format!(
            r#"{{"id":1,"op":"connect","resume":{{"session":"s","ticket":"t","cursors":{{{}}},"topics":{{{}}}}}}}"#,
            cursors.join(","),
            topics.join(",")
        )
    };
    accepted(&send(CONTENT_BYTES_MAX, METADATA_BYTES_MAX));
    accepted(&publish(DATA_BYTES_MAX));
    accepted(&title(TITLE_BYTES_MAX));
    accepted(&members(CREATE_MEMBERS_MAX));
    accepted(&resume(RESUME_ENTRIES_MAX - 400, 400));
    for (frame, field) in [
        (send(CONTENT_BYTES_MAX + 1, 10), "`content` has 65537 bytes; at most 65536"),
        (send(1, METADATA_BYTES_MAX + 1), "`metadata` has 16385 bytes; at most 16384"),
        (publish(DATA_BYTES_MAX + 1), "`data` has 65537 bytes"),
        (title(TITLE_BYTES_MAX + 1), "`title` has 1025 bytes"),
        (members(CREATE_MEMBERS_MAX + 1), "`members` may hold at most 1000"),
        (resume(RESUME_ENTRIES_MAX + 1, 0), "`resume.cursors` may hold at most 1000"),
        (resume(RESUME_ENTRIES_MAX - 399, 400), "`resume` may hold at most 1000"),
    ] {
        let bad = refused(&frame);
        assert_eq!(bad.code, ErrorCode::TooLarge);
        assert!(bad.message.starts_with(field), "{}", bad.message);
    }
}

#[test]
fn a_key_is_counted_in_characters() {
    let send = |key: &str| format!(r#"{{"id":1,"op":"send","conversation":"c","content":"","key":"{key}"}}"#);
    accepted(&send(&"😀".repeat(KEY_CHARS_MAX)));
    refused(&send(&"😀".repeat(KEY_CHARS_MAX + 1)));
}

#[test]
fn values_are_carried_as_compact_json() {
    let frame = "{ \"id\" : 1 , \"op\":\"publish\", \"topic\":\"t\",\r\n\"data\" : { \"a \\\" b\" : [ 1.50 , \"\\u00e9 \" ,\t{ } , [ ] ] } }\n";
    let Ok(Command::Publish { data, .. }) = decode(Encoding::Json, frame.as_bytes()).unwrap().command else {
        panic!()
    };
    assert_eq!(data.as_str(), r#"{"a \" b":[1.50,"\u00e9 ",{},[]]}"#);
}

#[test]
fn white_space_does_not_count_as_size() {
    let spaces = " ".repeat(METADATA_BYTES_MAX);
    accepted(&format!(
        r#"{{"id":1,"op":"send","conversation":"c","key":"k","content":"","metadata":{{{spaces}"a":1}}}}"#
    ));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"id":1,"op":"publish","topic":"t","data":{open}{close}}}"#)
    };
    accepted(&nested(DEPTH_MAX - 1));
    for depth in [DEPTH_MAX, DEPTH_MAX + 4] {
        assert_eq!(refused(&nested(depth)).message, "values are nested deeper than 64");
    }
    // This also holds for an unknown field, and at a depth that would overflow the stack of a recursive reader.
    let deep = format!(
        r#"{{"x":{}"é",{}{},"id":1,"op":"ping"}}"#,
        "[".repeat(50_000),
        r#"{"]":"é"}"#,
        "]".repeat(50_000)
    );
    assert_eq!(refused_bytes(Encoding::Json, deep.as_bytes()), "values are nested deeper than 64");
    let mut deep = b"\x83\xa1x".to_vec();
    deep.extend(vec![0x91; 50_000]);
    deep.extend(b"\xc0\xa2id\x01\xa2op\xa4ping");
    assert_eq!(refused_bytes(Encoding::MsgPack, &deep), "values are nested deeper than 64");
}

#[test]
fn unknown_fields_are_ignored_and_null_is_absent() {
    assert_eq!(
        accepted(
            r#"{"id":1,"op":"ping","content":7,"limit":"x","future":{"a":[1,{"b":"\u0000"}]},"key":""}"#
        ),
        Command::Ping {}
    );
    assert_eq!(
        accepted(
            r#"{"id":1,"op":"send","conversation":"c","key":"k","content":"","metadata":null,"after":null}"#
        ),
        accepted(r#"{"id":1,"op":"send","conversation":"c","key":"k","content":""}"#)
    );
    assert_eq!(
        accepted(r#"{"id":1,"op":"connect","token":null,"resume":null}"#),
        Command::Connect(Connect::default())
    );
}

#[test]
fn of_repeated_keys_the_last_one_counts() {
    assert_eq!(accepted(r#"{"id":1,"op":"join","op":"ping","conversation":7}"#), Command::Ping {});
    let request = decode(Encoding::Json, br#"{"id":"x","op":"ping","id":5}"#).unwrap();
    assert_eq!((request.id, request.command), (5, Ok(Command::Ping {})));
}

#[test]
fn what_has_no_usable_id_is_no_frame() {
    for frame in [
        r#"{"op":"ping"}"#,
        r#"{"id":0,"op":"ping"}"#,
        r#"{"id":-1,"op":"ping"}"#,
        r#"{"id":1.5,"op":"ping"}"#,
        r#"{"id":"1","op":"ping"}"#,
        r#"{"id":null,"op":"ping"}"#,
        r#"{"id":9007199254740992,"op":"ping"}"#,
        r#"[{"id":1,"op":"ping"}]"#,
        r#""ping""#,
        "null",
        "7",
    ] {
        for read in both(frame) {
            assert!(read.is_err(), "{frame}");
        }
    }
    assert!(both(r#"{"id":9007199254740991,"op":"ping"}"#).into_iter().all(|read| read.is_ok()));
}

#[test]
fn integers_may_be_written_in_any_way_that_has_their_value() {
    let join = |after| Command::Join { conversation: "c".into(), after: Some(after), log: None };
    for (written, value) in [
        ("5", 5),
        ("5.0", 5),
        ("5e0", 5),
        ("50e-1", 5),
        ("0.5E1", 5),
        ("-0", 0),
        ("-0.0", 0),
        ("1e3", 1_000),
        ("4294967297.0", (1 << 32) + 1),
        ("9007199254740991.0", (1 << 53) - 1),
    ] {
        let frame = format!(r#"{{"id":{written},"op":"join","conversation":"c","after":{written}}}"#);
        for read in both(&frame) {
            match value {
                0 => assert!(read.is_err(), "{written} is no id"),
                _ => assert_eq!(
                    read.unwrap(),
                    Request { id: value, command: Ok(join(value)), is_connect: false }
                ),
            }
        }
        assert_eq!(
            accepted(&frame.replace(&format!("\"id\":{written}"), "\"id\":1")),
            join(value),
            "{written}"
        );
    }
    for written in ["0.5", "5e-1", "-1.0", "9007199254740992.0", "1e16", "1e300", "5.0000001"] {
        let bad = refused(&format!(r#"{{"id":1,"op":"join","conversation":"c","after":{written}}}"#));
        assert_eq!(bad.message, "`after` must be an integer from 0 to 2^53-1", "{written}");
    }
    let with_doubles = b"\x84\xa2id\xca\x40\x40\x00\x00\xa2op\xa4join\xacconversation\xa1c\xa5after\xcb\x41\xf0\x00\x00\x00\x10\x00\x00";
    let read = decode(Encoding::MsgPack, with_doubles).unwrap();
    assert_eq!((read.id, read.command), (3, Ok(join((1 << 32) + 1))), "float32 and float64");
}

#[test]
fn what_is_not_one_json_object_is_no_frame() {
    for frame in [
        "",
        " ",
        "{",
        r#"{"id":1,"op":"ping""#,
        r#"{"id":1,"op":"ping"}}"#,
        r#"{"id":1,"op":"ping"} x"#,
        r#"{"id":1,"op":"ping"}{"id":2,"op":"ping"}"#,
        r#"{"id":1,"op":"ping",}"#,
        r#"{,"id":1,"op":"ping"}"#,
        r#"{"id":1 "op":"ping"}"#,
        r#"{"id":1,,"op":"ping"}"#,
        r#"{"id" 1,"op":"ping"}"#,
        r#"{id:1,"op":"ping"}"#,
        r#"{'id':1,"op":"ping"}"#,
        r#"{"id":01,"op":"ping"}"#,
        r#"{"id":+1,"op":"ping"}"#,
        r#"{"id":1,"op":"pi\xng"}"#,
        r#"{"id":1,"op":"pi\u12g"}"#,
        "{\"id\":1,\"op\":\"pi\nng\"}",
        r#"{"id":1,"op":"ping","x":[1,]}"#,
        r#"{"id":1,"op":"ping","x":[,1]}"#,
        r#"{"id":1,"op":"ping","x":[1}"#,
        r#"{"id":1,"op":"ping","x":nul}"#,
        r#"{"id":1,"op":"ping","x":NaN}"#,
        r#"{"id":1,"op":"ping","x":tru}"#,
        "\u{feff}{\"id\":1,\"op\":\"ping\"}",
    ] {
        assert!(decode(Encoding::Json, frame.as_bytes()).is_err(), "{frame}");
        assert!(
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(frame).is_err(),
            "{frame}"
        );
    }
    assert!(decode(Encoding::Json, b"{\"id\":1,\"op\":\"\xff\"}").is_err());
}

#[test]
fn text_that_is_no_unicode_is_refused_where_it_matters() {
    let send =
        |content: &str| format!(r#"{{"id":1,"op":"send","conversation":"c","key":"k","content":{content}}}"#);
    for lone in [r#""\ud800""#, r#""\udc00x""#, r#""\ud800\u0041""#] {
        assert!(
            refused_bytes(Encoding::Json, send(lone).as_bytes())
                .starts_with("`content` holds text that is not")
        );
        let publish = format!(r#"{{"id":1,"op":"publish","topic":"t","data":{{"a":[{lone}]}}}}"#);
        assert!(
            refused_bytes(Encoding::Json, publish.as_bytes()).starts_with("`data` holds text that is not")
        );
    }
    let frame = b"\x84\xa2id\x01\xa2op\xa7publish\xa5topic\xa1t\xa4data\xa2\xc3\x28";
    assert!(refused_bytes(Encoding::MsgPack, frame).starts_with("`data` holds text that is not"));
}

#[test]
fn numbers_that_no_double_holds_are_refused() {
    let publish = |data: &str| format!(r#"{{"id":1,"op":"publish","topic":"t","data":{data}}}"#);
    assert!(
        refused_bytes(Encoding::Json, publish("[1e999]").as_bytes())
            .starts_with("`data` holds a number too large")
    );
    // This number is beyond 64 bits but within a double, as JavaScript writes 2^64.
    accepted_in_json(&publish("18446744073709552000"), "18446744073709552000");
    accepted_in_json(&publish("-0.0"), "-0.0");
}

fn accepted_in_json(frame: &str, data: &str) {
    let Ok(Command::Publish { data: read, .. }) = decode(Encoding::Json, frame.as_bytes()).unwrap().command
    else {
        panic!("{frame}")
    };
    assert_eq!(read.as_str(), data);
}

#[test]
fn what_json_lacks_is_refused_wherever_it_stands() {
    for (name, value) in [
        ("bin", &b"\xc4\x01x"[..]),
        ("bin16", b"\xc5\x00\x01x"),
        ("ext", b"\xc7\x01\x05x"),
        ("fixext1", b"\xd4\x05x"),
        ("fixext16", b"\xd8\x05xxxxxxxxxxxxxxxx"),
        ("NaN", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("infinity", b"\xca\x7f\x80\x00\x00"),
        ("integer key", b"\x81\x01\x02"),
        ("nil key", b"\x81\xc0\x02"),
        ("nested", b"\x91\x91\xc4\x00"),
    ] {
        for (op, field) in
            [(&b"\xa4ping"[..], &b"\xa1x"[..]), (b"\xa7publish", b"\xa4data"), (b"\xa4ping", b"\x07")]
        {
            let frame = [b"\x84\xa5topic\xa1t".as_slice(), field, value, b"\xa2id\x01\xa2op", op].concat();
            let message = refused_bytes(Encoding::MsgPack, &frame);
            assert!(message.starts_with("bin, ext, NaN"), "{name}: {message}");
        }
    }
}

#[test]
fn every_integer_format_of_messagepack_is_an_integer() {
    for seq in [
        &b"\x05"[..],
        b"\xcc\x05",
        b"\xcd\x00\x05",
        b"\xce\x00\x00\x00\x05",
        b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\xd0\x05",
        b"\xd1\x00\x05",
        b"\xd2\x00\x00\x00\x05",
        b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05",
    ] {
        let frame = [b"\x84\xa2op\xa4read\xacconversation\xa1c\xa2id\x01\xa3seq", seq].concat();
        let command = decode(Encoding::MsgPack, &frame).unwrap().command;
        assert_eq!(command, Ok(Command::Read { conversation: "c".into(), seq: 5 }));
    }
    let frame = b"\x84\xa2op\xa4read\xacconversation\xa1c\xa2id\x01\xa3seq\xff";
    assert!(refused_bytes(Encoding::MsgPack, frame).starts_with("`seq` must be an integer"));
}

#[test]
fn what_is_not_one_messagepack_map_is_no_frame() {
    let ping = b"\x82\xa2id\x01\xa2op\xa4ping".as_slice();
    assert!(decode(Encoding::MsgPack, ping).is_ok());
    for length in 0..ping.len() {
        assert!(decode(Encoding::MsgPack, &ping[..length]).is_err());
    }
    assert!(decode(Encoding::MsgPack, &[ping, b"\xc0"].concat()).is_err());
    for huge in [
        &b"\xdf\xff\xff\xff\xff"[..],
        b"\xde\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xdb\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc6\xff\xff\xff\xff",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc9\xff\xff\xff\xff\x01",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xdd\xff\xff\xff\xff\xc0",
        b"\x83\xa2id\x01\xa2op\xa4ping\xa1x\xc1",
    ] {
        assert!(decode(Encoding::MsgPack, huge).is_err());
    }
}

#[test]
fn bodies_are_read_like_frames() {
    assert_eq!(decode_create(b"{}"), Ok(Create::default()));
    assert_eq!(decode_publish(br#"{"data": [1, 2]}"#), Ok(json("[1,2]")));
    assert_eq!(
        decode_send("c", br#"{"key":"k","content":"x","sender":"bot","role":"assistant"}"#),
        Ok(PostedMessage {
            conversation: "c".into(),
            key: "k".into(),
            content: "x".into(),
            metadata: None,
            sender: Some("bot".into()),
            role: Some("assistant".into()),
        })
    );
    assert_eq!(decode_patch(b"{}"), Ok(Patch { title: None, metadata: None }));
    assert_eq!(
        decode_patch(br#"{"title":null,"metadata":null}"#),
        Ok(Patch { title: Some(None), metadata: Some(None) })
    );
    assert_eq!(
        decode_patch(br#"{"title":"T","metadata":{"a": 1}}"#),
        Ok(Patch { title: Some(Some("T".into())), metadata: Some(Some(json(r#"{"a":1}"#))) })
    );
}

#[test]
fn a_bad_body_says_what_is_wrong() {
    let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    for (message, start) in [
        (decode_create(b"").unwrap_err(), "the body is not a JSON object"),
        (decode_create(b"[]").unwrap_err(), "the body is not a JSON object"),
        (decode_create(b"{\"title\":\"\xff\"}").unwrap_err(), "the body is not a JSON object: not UTF-8"),
        (decode_create(br#"{"conversation":"a/b"}"#).unwrap_err(), "`conversation` must be a name"),
        (decode_publish(b"{}").unwrap_err(), "`data` is missing"),
        (decode_publish(deep.as_bytes()).unwrap_err(), "values are nested deeper"),
        (decode_send("a b", br#"{"key":"k","content":""}"#).unwrap_err(), "`conversation` must be a name"),
        (decode_send("c", br#"{"key":"k","content":"","role":"robot"}"#).unwrap_err(), "`role` must be"),
        (
            decode_send("c", br#"{"key":"k","content":"","sender":"a b"}"#).unwrap_err(),
            "`sender` must be a name",
        ),
        (decode_patch(br#"{"title":7}"#).unwrap_err(), "`title` must be a string"),
        (decode_patch(br#"{"metadata":"x"}"#).unwrap_err(), "`metadata` must be an object"),
    ] {
        assert_eq!(message.code, ErrorCode::BadRequest);
        assert!(message.message.starts_with(start), "{}", message.message);
    }
}

use proptest::strategy::Strategy as _;

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = decode(Encoding::Json, &bytes);
        let _ = decode(Encoding::MsgPack, &bytes);
        let mut map = b"\x82\xa2id\x01\xa4data".to_vec();
        map.extend(bytes);
        let _ = decode(Encoding::MsgPack, &map);
    }
    #[test]
    fn a_number_is_an_integer_by_its_value_and_the_same_in_both_encodings(
        number in proptest::prop_oneof![
            proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
            (-2_000_i64..2_000).prop_map(|number| number as f64),
            (-2_000_i64..2_000).prop_map(|quarters| quarters as f64 / 4.0),
            proptest::prelude::any::<i64>().prop_map(|number| number as f64),
            ((1_i64 << 53) - 4..(1 << 53) + 4).prop_map(|number| number as f64),
        ],
    ) {
        let frame = format!(r#"{{"id":1,"op":"read","conversation":"c","seq":{number:?}}}"#);
        let whole = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
        for read in both(&frame) {
            let read = read.unwrap().command;
            if whole {
                proptest::prop_assert_eq!(read, Ok(Command::Read { conversation: "c".into(), seq: number as u64 }));
            } else {
                proptest::prop_assert!(read.is_err(), "{}", number);
            }
        }
    }
}

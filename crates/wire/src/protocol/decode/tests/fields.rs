//! Rules of single fields: their types, sizes and values.

use super::super::super::*;
use super::{accepted, both, refused, refused_bytes};

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

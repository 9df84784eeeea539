//! Every command is read, with the fields that the list has for it.

use super::super::super::*;
use super::super::fields::Fields;
use super::{accepted, json};

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

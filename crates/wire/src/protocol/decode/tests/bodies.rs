//! Bodies of HTTP requests, which are read like frames.

use super::super::super::*;
use super::json;

#[test]
fn bodies_are_read_like_frames() {
    assert_eq!(decode_create(b"{}"), Ok(Create::default()));
    assert_eq!(decode_publish(br#"{"data": [1, 2]}"#), Ok(json("[1,2]")));
    assert_eq!(
        decode_send("c", br#"{"key":"k","content":"x","sender":"bot","role":"assistant"}"#),
        Ok(PostedMessage {
            send: Send { conversation: "c".into(), key: "k".into(), content: "x".into(), metadata: None },
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

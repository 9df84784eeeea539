//! What backends answer.

use serde::Deserialize;
use serde_json::value::RawValue;
use starling_wire::protocol::decode_send;

use super::verdict::{Rewrite, Verdict};
use crate::model::cut;

/// The longest message of a refusal, bytes. The rest is cut off.
const MESSAGE_BYTES_MAX: usize = 1024;
/// The message of a refusal without one.
const REFUSED: &str = "the application does not allow this";

/// An answer as it was sent. Other fields are ignored.
#[derive(Deserialize)]
struct Answer<'a> {
    allow: bool,
    message: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// Reads an answer. Only the answer about a message may change something. Returns an error for people.
pub(crate) fn read(bytes: &[u8], is_send: bool) -> Result<Verdict, String> {
    let answer: Answer<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if !answer.allow {
        // A text can't hold U+0000.
        let message = answer.message.unwrap_or_default().replace('\0', "\u{fffd}");
        let message = if message.is_empty() { REFUSED } else { cut(&message, MESSAGE_BYTES_MAX) };
        return Ok(Verdict::Refuse(message.to_owned()));
    }
    let rewrite = if is_send { rewrite(answer.content, answer.metadata)? } else { Rewrite::default() };
    Ok(Verdict::Allow(rewrite))
}

/// Checks the changes as if a client had sent them.
fn rewrite(content: Option<&RawValue>, metadata: Option<&RawValue>) -> Result<Rewrite, String> {
    if content.is_none() && metadata.is_none() {
        return Ok(Rewrite::default());
    }
    let text = content.map_or("\"\"", RawValue::get);
    let object = metadata.map_or("null", RawValue::get);
    let message = format!(r#"{{"key":"k","content":{text},"metadata":{object}}}"#);
    let checked = decode_send("c", message.as_bytes()).map_err(|error| error.message.to_string())?;
    Ok(Rewrite { content: content.map(|_| checked.send.content), metadata: checked.send.metadata })
}

#[cfg(test)]
mod tests {
    use starling_wire::protocol::Json;

    use super::*;

    fn allowed(content: Option<&str>, metadata: Option<&str>) -> Result<Verdict, String> {
        Ok(Verdict::Allow(Rewrite {
            content: content.map(str::to_owned),
            metadata: metadata.map(Json::from_compact),
        }))
    }

    #[test]
    fn an_answer_allows_refuses_or_rewrites() {
        let refused = |message: &str| Ok(Verdict::Refuse(message.to_owned()));
        for (answer, expected) in [
            (r#"{"allow":true}"#, allowed(None, None)),
            (r#"{"allow":true,"message":null,"content":null,"metadata":null,"x":[1]}"#, allowed(None, None)),
            (r#"{"allow":true,"content":""}"#, allowed(Some(""), None)),
            (r#" { "content" : "a\u00e9\n", "allow" : true } "#, allowed(Some("aé\n"), None)),
            (
                r#"{"allow":true,"metadata":{"n": 1e30, "big": 12345678901234567890123}}"#,
                allowed(None, Some(r#"{"n":1e30,"big":12345678901234567890123}"#)),
            ),
            (r#"{"allow":false}"#, refused(REFUSED)),
            (r#"{"allow":false,"message":"no\u0000 spam","content":7}"#, refused("no\u{fffd} spam")),
        ] {
            assert_eq!(read(answer.as_bytes(), true), expected, "{answer}");
        }
        let long = format!(r#"{{"allow":false,"message":"{}"}}"#, "é".repeat(1000));
        assert_eq!(read(long.as_bytes(), true), refused(&"é".repeat(512)));
    }

    #[test]
    fn only_a_message_is_rewritten() {
        let answer = br#"{"allow":true,"content":"other","metadata":7}"#;
        assert_eq!(read(answer, false), allowed(None, None));
    }

    #[test]
    fn what_nobody_may_send_is_no_answer() {
        let long = format!(r#"{{"allow":true,"content":"{}"}}"#, "a".repeat((64 << 10) + 1));
        let wide = format!(r#"{{"allow":true,"metadata":{{"a":"{}"}}}}"#, "a".repeat(16 << 10));
        let deep = format!(r#"{{"allow":true,"metadata":{{"a":{}{}}}}}"#, "[".repeat(100), "]".repeat(100));
        for answer in [
            "",
            "true",
            "[]",
            "{}",
            "null",
            "<html>",
            r#"{"allow":"yes"}"#,
            r#"{"allow":1}"#,
            r#"{"allow":true"#,
            r#"{"allow":true,"content":7}"#,
            r#"{"allow":true,"content":"a\u0000"}"#,
            r#"{"allow":true,"content":"\ud800"}"#,
            r#"{"allow":true,"metadata":[]}"#,
            r#"{"allow":true,"metadata":"a"}"#,
            r#"{"allow":true,"metadata":{"n":1e400}}"#,
            &long,
            &wide,
            &deep,
        ] {
            assert!(read(answer.as_bytes(), true).is_err(), "{}", &answer[..answer.len().min(80)]);
        }
        assert!(read(b"\xff", true).is_err());
    }
}

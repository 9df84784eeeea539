//! Publications as bytes: their kinds, and the changes that sabotages make to them.

use bytes::Bytes;

use super::super::log::Log;

/// The first byte of a publication that is a message of a conversation.
const MESSAGE: u8 = 1;

/// The first byte of a publication about a node's interest, and the byte after it in a beat.
const INTEREST: u8 = 3;
const BEAT: u8 = 0;

/// Whether a publication is about a node's interest.
pub(super) fn is_interest(body: &[u8]) -> bool {
    body.first() == Some(&INTEREST)
}

/// Returns the beat of a node that has never been interested in anything, in place of a beat about a node's interest. `None`: it is no
/// beat.
pub(super) fn without_interest(body: &Bytes) -> Option<Bytes> {
    let [INTEREST, BEAT, length, ..] = body[..] else { return None };
    let mut body = body.to_vec();
    body[3 + usize::from(length)..].fill(0);
    Some(body.into())
}

/// Whether a publication is a message of a conversation.
pub(super) fn is_message(body: &[u8]) -> bool {
    body.first() == Some(&MESSAGE)
}

/// Whether a publication is a node's message of this kind.
pub(super) fn is_kind(body: &[u8], kind: &str) -> bool {
    let rest = body.get(1..).and_then(|json| json.strip_prefix(b"{\"")?.strip_prefix(kind.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"\":"))
}

/// Returns the same publication with the id of the conversation that has its name now.
pub(super) fn renumbered(body: &Bytes, log: &Log) -> Bytes {
    let renumber = || {
        let (kind, json) = body.split_first()?;
        let mut message: serde_json::Value = serde_json::from_slice(json).ok()?;
        let fields = message.as_object_mut()?.values_mut().next()?;
        let now = log.number_of(fields["name"].as_str()?)?;
        fields["conversation"] = serde_json::json!(now);
        Some(Bytes::from([&[*kind], message.to_string().as_bytes()].concat()))
    };
    renumber().unwrap_or_else(|| body.clone())
}

/// Returns the same message with another text of the same length.
pub(super) fn altered(body: &Bytes) -> Bytes {
    let mut body = body.to_vec();
    let text = b"\"content\":\"";
    if let Some(at) = body.windows(text.len()).position(|window| window == text) {
        body[at + text.len()] = b'#';
    }
    body.into()
}

//! Commands, replies and events in JSON and MessagePack.
//!
//! What happens once per connection goes through [`Value`]. What happens per message is written and read without one.

use std::io::Write;

use anyhow::{Context, Result};
use memchr::memmem;
use serde_json::Value;

use super::frames::Opcode;
use super::marker::Marker;

/// How an object is written in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON in text frames.
    Json,
    /// MessagePack in binary frames.
    Msgpack,
}

/// What a frame of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reply to the command with this id.
    Reply(u64),
    /// An event.
    Event,
    /// Neither.
    Unknown,
}

/// A message as a session sends it.
pub struct Outgoing<'a> {
    /// The id of the command.
    pub id: u64,
    /// The conversation or topic.
    pub room: &'a str,
    /// The idempotency key of a message in a conversation; a publication has none.
    pub key: Option<&'a str>,
    /// What the text starts with.
    pub marker: Marker,
    /// The size of the text.
    pub bytes: usize,
}

impl Encoding {
    /// The WebSocket subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "starling.v1.json",
            Self::Msgpack => "starling.v1.msgpack",
        }
    }

    /// The kind of frame that carries it.
    pub fn opcode(self) -> Opcode {
        match self {
            Self::Json => Opcode::Text,
            Self::Msgpack => Opcode::Binary,
        }
    }

    /// Writes any object.
    ///
    /// # Errors
    /// When the object can't be written in MessagePack.
    pub fn write(self, object: &Value) -> Result<Vec<u8>> {
        match self {
            Self::Json => serde_json::to_vec(object).context("write JSON"),
            Self::Msgpack => rmp_serde::to_vec(object).context("write MessagePack"),
        }
    }

    /// Reads any object.
    ///
    /// # Errors
    /// When the frame holds none.
    pub fn read(self, frame: &[u8]) -> Result<Value> {
        match self {
            Self::Json => serde_json::from_slice(frame).context("the node sent no JSON"),
            Self::Msgpack => rmp_serde::from_slice(frame).context("the node sent no MessagePack"),
        }
    }

    /// Writes a `send` or a `publish`. Names, keys and the text consist of characters that need no escapes.
    pub fn write_message(self, out: &mut Vec<u8>, message: &Outgoing<'_>) {
        let (op, room, text) = match message.key {
            Some(_) => ("send", "conversation", "content"),
            None => ("publish", "topic", "data"),
        };
        match self {
            Self::Json => {
                // Writing to a vector can't fail.
                let _ = write!(out, r#"{{"id":{},"op":"{op}","{room}":"{}","#, message.id, message.room);
                if let Some(key) = message.key {
                    let _ = write!(out, r#""key":"{key}","#);
                }
                let _ = write!(out, r#""{text}":""#);
                message.marker.write(out, message.bytes);
                out.extend_from_slice(b"\"}");
            }
            Self::Msgpack => {
                out.push(if message.key.is_some() { 0x85 } else { 0x84 });
                write_text(out, "id");
                out.push(0xcf);
                out.extend_from_slice(&message.id.to_be_bytes());
                for (name, value) in [("op", op), (room, message.room)] {
                    write_text(out, name);
                    write_text(out, value);
                }
                if let Some(key) = message.key {
                    write_text(out, "key");
                    write_text(out, key);
                }
                write_text(out, text);
                write_text_header(out, message.bytes);
                message.marker.write(out, message.bytes);
            }
        }
    }

    /// What a frame is, from its first bytes: nodes write `id` and `ev` first.
    pub fn kind(self, frame: &[u8]) -> Kind {
        let (id, event): (&[u8], &[u8]) = match self {
            Self::Json => (b"{\"id\":", b"{\"ev\":"),
            Self::Msgpack => (b"\xa2id", b"\xa2ev"),
        };
        // The header of a map takes one byte in MessagePack: no reply or event has more than 15 fields.
        let start = match self {
            Self::Json => frame,
            Self::Msgpack => frame.get(1..).unwrap_or_default(),
        };
        if start.starts_with(event) {
            return Kind::Event;
        }
        let number = start.strip_prefix(id).and_then(|rest| self.number(rest));
        number.map_or(Kind::Unknown, Kind::Reply)
    }

    /// Whether a reply is an `ok`.
    pub fn is_ok(self, reply: &[u8]) -> bool {
        self.find(reply, "ok").is_some() && self.find(reply, "error").is_none()
    }

    /// The whole number in the field of this name, of at most six letters.
    pub fn field(self, frame: &[u8], name: &str) -> Option<u64> {
        self.number(&frame[self.find(frame, name)?..])
    }

    /// Where the value of the first field of this name begins.
    fn find(self, frame: &[u8], name: &str) -> Option<usize> {
        let mut key = [0; 16];
        let mut out = &mut key[..];
        match self {
            Self::Json => write!(out, "\"{name}\":").ok()?,
            Self::Msgpack => {
                let header = [0xa0 | u8::try_from(name.len()).ok()?];
                out.write_all(&header).and_then(|()| out.write_all(name.as_bytes())).ok()?;
            }
        }
        let length = 16 - out.len();
        Some(memmem::find(frame, &key[..length])? + length)
    }

    /// The whole number at the start.
    fn number(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Self::Json => {
                let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
            }
            Self::Msgpack => {
                let (first, rest) = bytes.split_first()?;
                let length = match first {
                    0x00..=0x7f => return Some(u64::from(*first)),
                    0xcc..=0xcf => 1_usize << (first - 0xcc),
                    // A signed number that is not negative.
                    0xd0..=0xd3 => 1_usize << (first - 0xd0),
                    _ => return None,
                };
                Some(rest.get(..length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_text_header(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn write_text_header(out: &mut Vec<u8>, length: usize) {
    match length {
        ..32 => out.push(0xa0 | length as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Msgpack];

    #[test]
    fn a_message_reads_back_as_the_object_that_the_protocol_wants() {
        for encoding in BOTH {
            for bytes in [24, 128, 300, 65_536] {
                let marker = Marker { sender: 3, due_us: 99 };
                let mut out = Vec::new();
                let outgoing = Outgoing { id: 70_000, room: "room-1", key: Some("k-1"), marker, bytes };
                encoding.write_message(&mut out, &outgoing);
                let object = encoding.read(&out).unwrap();
                assert_eq!(object["id"], json!(70_000));
                assert_eq!(object["op"], json!("send"));
                assert_eq!((&object["conversation"], &object["key"]), (&json!("room-1"), &json!("k-1")));
                assert_eq!(object["content"].as_str().map(str::len), Some(bytes));
                out.clear();
                encoding.write_message(&mut out, &Outgoing { key: None, ..outgoing });
                let object = encoding.read(&out).unwrap();
                assert_eq!((&object["op"], &object["topic"]), (&json!("publish"), &json!("room-1")));
                assert_eq!(object["data"].as_str().map(str::len), Some(bytes));
            }
        }
    }

    #[test]
    fn replies_and_events_are_told_apart_without_reading_them() {
        for encoding in BOTH {
            let write = |object: &Value| encoding.write(object).unwrap();
            // serde_json sorts keys, as `id` < `ok` and `ev` < `seq` happen to be in a node's order.
            let reply = write(&json!({"id": 300, "ok": {"seq": 70_000}}));
            assert_eq!(encoding.kind(&reply), Kind::Reply(300));
            assert!(encoding.is_ok(&reply));
            assert_eq!(encoding.field(&reply, "seq"), Some(70_000));
            let refused = write(&json!({"id": 5, "problem": {"error": 1}}));
            assert_eq!(encoding.kind(&refused), Kind::Reply(5));
            assert!(!encoding.is_ok(&refused));
            let event = write(&json!({"ev": "message", "seq": 12}));
            assert_eq!((encoding.kind(&event), encoding.field(&event, "seq")), (Kind::Event, Some(12)));
            assert_eq!(encoding.kind(&write(&json!({"x": 1}))), Kind::Unknown);
        }
    }
}

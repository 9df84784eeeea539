//! From replies and events to bytes.

use bytes::Bytes;
use serde::Serialize;

use super::json_text::push_integer;
use super::msgpack_writer as msgpack;
use super::object_writer::{JsonObject, MsgPackObject, ObjectWriter};
use super::transcode::push_transcoded;
use super::{Encoding, ErrorBody, ErrorCode, Event, Json, uuid};
use crate::websocket::{FrameBuffer, OpCode};

/// `{"id": N, "ok": {...}}`, in a finished frame.
pub fn encode_ok_frame<T: Serialize + ?Sized>(encoding: Encoding, id: u64, ok: &T) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(256);
    push_ok(frame.payload(), encoding, id, ok);
    frame.finish(opcode(encoding))
}

/// `{"id": N, "error": {...}}`, in a finished frame.
pub fn encode_error_frame(encoding: Encoding, id: u64, error: &ErrorBody) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(96 + error.message.len());
    push_error(frame.payload(), encoding, id, error);
    frame.finish(opcode(encoding))
}

/// `{"ev": NAME, ...}`, in a finished frame: one buffer for all sockets of an encoding.
pub fn encode_event_frame(encoding: Encoding, event: &Event<'_>) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(event_capacity(event));
    push_event(frame.payload(), encoding, event);
    frame.finish(opcode(encoding))
}

/// A finished frame around an encoded payload: unmasked, final, text for JSON and binary for MessagePack.
pub fn frame(encoding: Encoding, payload: &[u8]) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(opcode(encoding))
}

/// The payload of a frame that a function of this module finished, sharing its buffer.
pub fn payload_of(frame: &Bytes) -> Bytes {
    frame.slice(frame.len() - crate::websocket::payload_of(frame).len()..)
}

fn opcode(encoding: Encoding) -> OpCode {
    match encoding {
        Encoding::Json => OpCode::Text,
        Encoding::MsgPack => OpCode::Binary,
    }
}

/// `out` is empty: what stands in it after a failure is thrown away up to `start`.
fn push_ok<T: Serialize + ?Sized>(out: &mut Vec<u8>, encoding: Encoding, id: u64, ok: &T) {
    let start = out.len();
    let done = match encoding {
        Encoding::Json => push_ok_json(out, id, ok),
        // Replies are rare beside events, so they are described once, by serde, and go over JSON, in which they can also
        // carry values as text.
        Encoding::MsgPack => {
            let mut json = Vec::with_capacity(256);
            push_ok_json(&mut json, id, ok)
                .and_then(|()| std::str::from_utf8(&json).map_err(serde::ser::Error::custom))
                .and_then(|json| push_transcoded(out, json).map_err(serde::ser::Error::custom))
        }
    };
    if done.is_err() {
        // Only a value in the log that is no JSON can bring this about. The client gets an answer all the same.
        out.truncate(start);
        let message = "the answer could not be encoded".to_owned();
        push_error(
            out,
            encoding,
            id,
            &ErrorBody { code: ErrorCode::Internal, message, retry_after_ms: None },
        );
    }
}

fn push_ok_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, id: u64, ok: &T) -> Result<(), serde_json::Error> {
    out.extend_from_slice(b"{\"id\":");
    push_integer(out, id);
    out.extend_from_slice(b",\"ok\":");
    serde_json::to_writer(&mut *out, ok)?;
    out.push(b'}');
    Ok(())
}

fn push_error(out: &mut Vec<u8>, encoding: Encoding, id: u64, error: &ErrorBody) {
    match encoding {
        Encoding::Json => {
            out.extend_from_slice(b"{\"id\":");
            push_integer(out, id);
            out.extend_from_slice(b",\"error\":");
            write_error(&mut JsonObject(out), error);
            out.push(b'}');
        }
        Encoding::MsgPack => {
            msgpack::push_map_head(out, 2);
            msgpack::push_str(out, "id");
            msgpack::push_uint(out, id);
            msgpack::push_str(out, "error");
            write_error(&mut MsgPackObject(out), error);
        }
    }
}

fn write_error(object: &mut impl ObjectWriter, error: &ErrorBody) {
    object.begin(2 + usize::from(error.retry_after_ms.is_some()));
    object.text("code", error.code.as_str());
    object.text("message", &error.message);
    if let Some(retry_after_ms) = error.retry_after_ms {
        object.integer("retry_after_ms", retry_after_ms);
    }
    object.end();
}

fn push_event(out: &mut Vec<u8>, encoding: Encoding, event: &Event<'_>) {
    match encoding {
        Encoding::Json => write_event(&mut JsonObject(out), event),
        Encoding::MsgPack => write_event(&mut MsgPackObject(out), event),
    }
}

fn write_event(object: &mut impl ObjectWriter, event: &Event<'_>) {
    match event {
        Event::Message(message) => {
            object.begin(8 + usize::from(message.metadata.is_some()));
            object.text("ev", "message");
            object.text("conversation", message.conversation);
            object.integer("seq", message.seq);
            object.text("id", uuid::text(message.id, &mut [0; uuid::LENGTH]));
            object.text("sender", message.sender);
            object.text("role", message.role);
            object.text("content", message.content);
            if let Some(metadata) = message.metadata {
                object.json("metadata", metadata);
            }
            object.text("at", message.at.text(&mut Default::default()));
        }
        Event::Read { conversation, user, seq } => {
            begin_about(object, 4, "read", conversation, user);
            object.integer("seq", *seq);
        }
        Event::Typing { conversation, user, typing } => {
            begin_about(object, 4, "typing", conversation, user);
            object.boolean("typing", *typing);
        }
        Event::Presence { conversation, user, online, last_seen } => {
            begin_about(object, 4 + usize::from(last_seen.is_some()), "presence", conversation, user);
            object.boolean("online", *online);
            if let Some(last_seen) = last_seen {
                object.text("last_seen", last_seen.text(&mut Default::default()));
            }
        }
        Event::Member { conversation, user, member } => {
            begin_about(object, 4, "member", conversation, user);
            object.boolean("member", *member);
        }
        Event::Updated { conversation, title, metadata } => {
            object.begin(2 + usize::from(title.is_some()) + usize::from(metadata.is_some()));
            object.text("ev", "updated");
            object.text("conversation", conversation);
            if let Some(title) = title {
                object.text("title", title);
            }
            if let Some(metadata) = metadata {
                object.json("metadata", metadata);
            }
        }
        Event::Deleted { conversation, log } => {
            object.begin(3);
            object.text("ev", "deleted");
            object.text("conversation", conversation);
            object.text("log", log);
        }
        Event::Publication { topic, offset, data, sender } => {
            object.begin(4 + usize::from(sender.is_some()));
            object.text("ev", "publication");
            object.text("topic", topic);
            object.integer("offset", *offset);
            object.json("data", data);
            if let Some(sender) = sender {
                object.text("sender", sender);
            }
        }
        Event::Draining { reconnect_after_ms } => {
            object.begin(2);
            object.text("ev", "draining");
            object.integer("reconnect_after_ms", *reconnect_after_ms);
        }
    }
    object.end();
}

/// Starts an event about a user in a conversation.
fn begin_about(
    object: &mut impl ObjectWriter,
    fields: usize,
    event: &'static str,
    conversation: &str,
    user: &str,
) {
    object.begin(fields);
    object.text("ev", event);
    object.text("conversation", conversation);
    object.text("user", user);
}

/// About how long an event becomes, so that its buffer is seldom moved.
fn event_capacity(event: &Event<'_>) -> usize {
    let json = |json: &Json| json.as_str().len();
    192 + match event {
        Event::Message(message) => {
            message.conversation.len()
                + message.sender.len()
                + message.content.len()
                + message.metadata.map_or(0, json)
        }
        Event::Publication { topic, data, .. } => topic.len() + json(data),
        Event::Updated { conversation, title, metadata } => {
            conversation.len() + title.map_or(0, str::len) + metadata.map_or(0, json)
        }
        _ => 64,
    }
}

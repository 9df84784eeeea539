//! Encodes replies and events into bytes.

use bytes::Bytes;
use serde::Serialize;

use super::json_text::push_integer;
use super::msgpack_writer as msgpack;
use super::object_writer::{JsonObject, MsgPackObject, ObjectWriter};
use super::transcode::push_transcoded;
use super::{Encoding, ErrorBody, ErrorCode, Event};
use crate::websocket::{FrameBuffer, OpCode};

/// Encodes `{"id": N, "ok": {...}}` in a finished frame.
pub fn encode_ok_frame<T: Serialize + ?Sized>(encoding: Encoding, id: u64, ok: &T) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(256);
    push_ok(frame.payload(), encoding, id, ok);
    frame.finish(opcode(encoding))
}

/// Encodes `{"id": N, "error": {...}}` in a finished frame.
pub fn encode_error_frame(encoding: Encoding, id: u64, error: &ErrorBody) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(96 + error.message.len());
    push_error(frame.payload(), encoding, id, error);
    frame.finish(opcode(encoding))
}

/// Encodes `{"ev": NAME, ...}` in a finished frame, which all connections with this encoding share.
pub fn encode_event_frame(encoding: Encoding, event: &Event) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(event.capacity());
    push_event(frame.payload(), encoding, event);
    frame.finish(opcode(encoding))
}

/// Makes a finished frame around an encoded payload: unmasked, final, text for JSON and binary for MessagePack.
pub fn frame(encoding: Encoding, payload: &[u8]) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(opcode(encoding))
}

/// Returns the payload of a frame that this module finished. It shares the frame's buffer.
pub fn payload_of(frame: &Bytes) -> Bytes {
    frame.slice(frame.len() - crate::websocket::payload_of(frame).len()..)
}

fn opcode(encoding: Encoding) -> OpCode {
    match encoding {
        Encoding::Json => OpCode::Text,
        Encoding::MsgPack => OpCode::Binary,
    }
}

/// Appends a reply. If the value can't be encoded, an error reply is appended instead.
fn push_ok<T: Serialize + ?Sized>(out: &mut Vec<u8>, encoding: Encoding, id: u64, ok: &T) {
    let start = out.len();
    let done = match encoding {
        Encoding::Json => push_ok_json(out, id, ok),
        // Replies are rare compared with events. So they are described only for serde and encoded through JSON, which also allows values
        // that are JSON text.
        Encoding::MsgPack => {
            let mut json = Vec::with_capacity(256);
            push_ok_json(&mut json, id, ok)
                .and_then(|()| std::str::from_utf8(&json).map_err(serde::ser::Error::custom))
                .and_then(|json| push_transcoded(out, json).map_err(serde::ser::Error::custom))
        }
    };
    if done.is_err() {
        // Only a value in the log that is not JSON can cause this. The client gets a reply anyway.
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
            write_error(JsonObject::begin(out), error);
            out.push(b'}');
        }
        Encoding::MsgPack => {
            msgpack::push_map_head(out, 2);
            msgpack::push_str(out, "id");
            msgpack::push_uint(out, id);
            msgpack::push_str(out, "error");
            write_error(MsgPackObject::begin(out), error);
        }
    }
}

fn write_error(mut object: impl ObjectWriter, error: &ErrorBody) {
    object.text("code", error.code.as_str());
    object.text("message", &error.message);
    if let Some(retry_after_ms) = error.retry_after_ms {
        object.integer("retry_after_ms", retry_after_ms);
    }
    object.end();
}

fn push_event(out: &mut Vec<u8>, encoding: Encoding, event: &Event) {
    match encoding {
        Encoding::Json => event.write(JsonObject::begin(out)),
        Encoding::MsgPack => event.write(MsgPackObject::begin(out)),
    }
}

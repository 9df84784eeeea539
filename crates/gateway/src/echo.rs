//! Sends every message back, so that conformance suites can test the listener, the shards and the codec.

use bytes::Bytes;
use starling_wire::websocket::{FrameBuffer, OpCode};

/// The frame of a text message.
pub(crate) fn text(text: &str) -> Bytes {
    framed(OpCode::Text, text.as_bytes())
}

/// The frame of a binary message.
pub(crate) fn binary(bytes: &[u8]) -> Bytes {
    framed(OpCode::Binary, bytes)
}

fn framed(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(opcode)
}

//! Gives every message back. With it the listener, the shards and the codec can be held against conformance suites.

use bytes::Bytes;
use starling_wire::websocket::{FrameBuffer, OpCode};

/// A text message, framed.
pub(crate) fn text(text: &str) -> Bytes {
    framed(OpCode::Text, text.as_bytes())
}

/// A binary message, framed.
pub(crate) fn binary(bytes: &[u8]) -> Bytes {
    framed(OpCode::Binary, bytes)
}

fn framed(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(opcode)
}

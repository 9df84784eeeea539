//! Compression of what goes to a client.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use super::super::{FrameBuffer, OpCode, payload_of};
use super::{Params, TAIL};

/// Payloads shorter than this go out as they are: a header of a block and a byte of flush would eat the gain.
const PAYLOAD_BYTES_MIN: usize = 32;

/// Compresses frames for one connection. Without context takeover it keeps nothing between frames, so that one deflater, and
/// each frame it makes, can serve all connections that agreed on the same [`Params`].
#[derive(Debug)]
pub struct Deflater {
    /// `None` before the first message, and between messages where nothing is carried over.
    stream: Option<Compress>,
    window_bits: u8,
    takeover: bool,
    level: Compression,
}

impl Deflater {
    /// For a connection that agreed on this; `level` from 1 (fast) to 9 (small). Allocates nothing yet.
    pub fn new(params: Params, level: u32) -> Deflater {
        Deflater {
            stream: None,
            window_bits: params.server_max_window_bits.clamp(9, 15),
            takeover: !params.server_no_context_takeover,
            level: Compression::new(level.clamp(1, 9)),
        }
    }

    /// Whether memory is held for the next frame.
    #[cfg(test)]
    pub(super) fn stream_is_kept(&self) -> bool {
        self.stream.is_some()
    }

    /// Gives the compressed form of a finished, uncompressed frame; the frame itself where it is a control frame, short, or
    /// would not become shorter.
    pub fn compress(&mut self, frame: &Bytes) -> Bytes {
        let payload = payload_of(frame);
        let opcode = match frame.first().and_then(|first| OpCode::try_from(first & 0x0f).ok()) {
            Some(opcode @ (OpCode::Text | OpCode::Binary)) if payload.len() >= PAYLOAD_BYTES_MIN => opcode,
            _ => return frame.clone(),
        };
        let (bits, level) = (self.window_bits, self.level);
        let stream = self.stream.get_or_insert_with(|| Compress::new_with_window_bits(level, false, bits));
        let mut buffer = FrameBuffer::with_capacity(payload.len() / 2 + 64);
        let written = deflate(stream, payload, buffer.payload());
        if !self.takeover || !written {
            self.stream = None;
        }
        let out = buffer.payload();
        // With context takeover the frame must go out as it is, since the client's window is to hold it too.
        if !written || !out.ends_with(&TAIL) || (!self.takeover && out.len() >= payload.len() + TAIL.len()) {
            self.stream = None;
            return frame.clone();
        }
        out.truncate(out.len() - TAIL.len());
        buffer.finish_compressed(opcode)
    }
}

/// Compresses all of the input and flushes it to a byte's boundary. `false`: the compressor failed.
fn deflate(stream: &mut Compress, mut input: &[u8], out: &mut Vec<u8>) -> bool {
    loop {
        if out.capacity() - out.len() < 64 {
            out.reserve(out.len().max(256));
        }
        let total_in = stream.total_in();
        if stream.compress_vec(input, out, FlushCompress::Sync).is_err() {
            return false;
        }
        input = &input[(stream.total_in() - total_in) as usize..];
        // The flush is complete when it left some room.
        if input.is_empty() && out.len() < out.capacity() {
            return true;
        }
    }
}

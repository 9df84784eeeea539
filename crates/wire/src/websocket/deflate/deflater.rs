//! Compression of frames for a client.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use super::super::{FrameBuffer, OpCode, payload_of};
use super::{Params, TAIL};

/// Shortest payload that is compressed, in bytes. For shorter ones the block header and the flush outweigh the gain.
const PAYLOAD_BYTES_MIN: usize = 32;

/// Compressor of frames for one connection. Without context takeover it keeps nothing between frames. One deflater and its
/// frames can then serve all connections with the same [`Params`].
#[derive(Debug)]
pub struct Deflater {
    /// `None` before the first message, and between messages without context takeover.
    stream: Option<Compress>,
    window_bits: u8,
    takeover: bool,
    level: Compression,
}

impl Deflater {
    /// Creates a deflater with the negotiated parameters and a `level` from 1 (fast) to 9 (small). Allocates nothing yet.
    pub fn new(params: Params, level: u32) -> Deflater {
        Deflater {
            stream: None,
            window_bits: params.server_max_window_bits.clamp(9, 15),
            takeover: !params.server_no_context_takeover,
            level: Compression::new(level.clamp(1, 9)),
        }
    }

    /// Whether memory is kept for the next frame.
    #[cfg(test)]
    pub(super) fn stream_is_kept(&self) -> bool {
        self.stream.is_some()
    }

    /// Returns the compressed form of a finished, uncompressed frame. Returns the frame itself if it is a control frame, is short, or
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
        // With context takeover the compressed frame must be sent even if it is longer, since the client's window needs it.
        if !written || !out.ends_with(&TAIL) || (!self.takeover && out.len() >= payload.len() + TAIL.len()) {
            self.stream = None;
            return frame.clone();
        }
        out.truncate(out.len() - TAIL.len());
        buffer.finish_compressed(opcode)
    }
}

/// Compresses the whole input and flushes to a byte boundary. Returns `false` if the compressor failed.
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
        // The flush is complete if it left some space.
        if input.is_empty() && out.len() < out.capacity() {
            return true;
        }
    }
}

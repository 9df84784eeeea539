//! Decompression of messages from a client.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Params, TAIL};

/// Least number of bytes by which the output grows.
const STEP_BYTES: usize = 4096;

/// Reason why a message cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// The result exceeds the limit.
    TooBig,
    /// The input is not a DEFLATE stream.
    NotDeflate,
}

/// Decompressor for the messages of one client, part by part.
#[derive(Debug)]
pub struct Inflater {
    /// `None` before the first message, and between messages without context takeover.
    stream: Option<Decompress>,
    window_bits: u8,
    takeover: bool,
}

impl Inflater {
    /// Creates an inflater with the negotiated parameters. Allocates nothing yet.
    pub fn new(params: Params) -> Inflater {
        Inflater {
            stream: None,
            // zlib does not support 8 bits, but a larger window can read the stream of a smaller one.
            window_bits: params.client_max_window_bits.clamp(9, 15),
            takeover: !params.client_no_context_takeover,
        }
    }

    /// Decompresses the next part of a message and appends the result to `out`. `last` marks the end of the message.
    ///
    /// # Errors
    ///
    /// `out` would become longer than `bytes_max`, or the data is not DEFLATE. The inflater must not be used after that.
    pub fn inflate(
        &mut self,
        part: &[u8],
        last: bool,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), InflateError> {
        let bits = self.window_bits;
        let stream = self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        inflate(stream, part, out, bytes_max)?;
        if last {
            inflate(stream, &TAIL, out, bytes_max)?;
            if !self.takeover {
                self.stream = None;
            }
        }
        Ok(())
    }
}

fn inflate(
    stream: &mut Decompress,
    mut input: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), InflateError> {
    loop {
        if out.len() == out.capacity() {
            // One byte beyond the limit is enough to detect that it is exceeded.
            let room = (bytes_max + 1).saturating_sub(out.len());
            out.reserve_exact(room.min(STEP_BYTES.max(out.len())).max(1));
        }
        let (total_in, before) = (stream.total_in(), out.len());
        let status =
            stream.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| InflateError::NotDeflate)?;
        let consumed = (stream.total_in() - total_in) as usize;
        input = &input[consumed..];
        if out.len() > bytes_max {
            return Err(InflateError::TooBig);
        }
        match status {
            // A client may end a message with a final block. The next message then starts a new stream.
            Status::StreamEnd => stream.reset(false),
            // With space left in the output, all of the input has been decompressed.
            _ if input.is_empty() && out.len() < out.capacity() => return Ok(()),
            _ if consumed == 0 && out.len() == before => return Err(InflateError::NotDeflate),
            _ => {}
        }
        if input.is_empty() && status == Status::StreamEnd {
            return Ok(());
        }
    }
}

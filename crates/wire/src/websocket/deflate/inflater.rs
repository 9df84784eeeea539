//! Decompression of what a client sends.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Params, TAIL};

/// Room that is made at a time.
const STEP_BYTES: usize = 4096;

/// Why a message can't be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// More than the limit comes out.
    TooBig,
    /// Not a DEFLATE stream.
    NotDeflate,
}

/// Decompresses the messages of one client, part by part.
#[derive(Debug)]
pub struct Inflater {
    /// `None` before the first message, and between messages where nothing is carried over.
    stream: Option<Decompress>,
    window_bits: u8,
    takeover: bool,
}

impl Inflater {
    /// For a connection that agreed on this. Allocates nothing yet.
    pub fn new(params: Params) -> Inflater {
        Inflater {
            stream: None,
            // zlib does not know 8 bits; a larger window reads a smaller one's stream as well.
            window_bits: params.client_max_window_bits.clamp(9, 15),
            takeover: !params.client_no_context_takeover,
        }
    }

    /// Inflates the next part of a message, and with `last` its end, and appends to `out` what comes out of it.
    ///
    /// # Errors
    ///
    /// `out` would become longer than `bytes_max`, or the data is no DEFLATE. The inflater is of no use then.
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
            // One more than the limit is room enough to find that it is exceeded.
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
            // A client may end a message with a final block. The next one starts a stream of its own.
            Status::StreamEnd => stream.reset(false),
            // All that is in is out, unless there was no room for it.
            _ if input.is_empty() && out.len() < out.capacity() => return Ok(()),
            _ if consumed == 0 && out.len() == before => return Err(InflateError::NotDeflate),
            _ => {}
        }
        if input.is_empty() && status == Status::StreamEnd {
            return Ok(());
        }
    }
}

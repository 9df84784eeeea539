//! Iteration over the messages in one read of a socket.

use super::decoder::{Decoder, GivenOut};
use super::header::{HEADER_BYTES_MAX, Header, is_control};
use super::incoming::{Incoming, incoming};
use super::{CONTROL_PAYLOAD_BYTES_MAX, DecodeError, OpCode, unmask};

/// Lending iterator over the messages in the bytes of one read. Each message must be used before the next one is requested.
#[derive(Debug)]
pub struct Feed<'a> {
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    at: usize,
    /// Bytes produced by the inflater.
    inflated: usize,
}

impl Decoder {
    /// Decodes bytes read from the socket, which are unmasked in place. The caller must iterate the [`Feed`] to its end or
    /// [stop](Feed::stop) it. If it is dropped earlier, the decoder has ended.
    pub fn feed<'a>(&'a mut self, input: &'a mut [u8]) -> Feed<'a> {
        Feed { decoder: self, input, at: 0, inflated: 0 }
    }
}

impl Feed<'_> {
    /// Returns the next complete message. `None` when the input is used up (an incomplete rest is kept) or the decoder has ended.
    ///
    /// # Errors
    ///
    /// The client violated the protocol. Nothing is decoded after that.
    #[expect(
        clippy::should_implement_trait,
        reason = "the returned value borrows from the iterator, which Iterator cannot express"
    )]
    pub fn next(&mut self) -> Option<Result<Incoming<'_>, DecodeError>> {
        self.decoder.release();
        if self.decoder.ended {
            return None;
        }
        match self.advance() {
            Ok(Some(Whole::Here { opcode, start, end })) => {
                let incoming = incoming(opcode, &self.input[start..end]);
                self.decoder.ended = incoming.is_err() || opcode == OpCode::Close;
                Some(incoming)
            }
            Ok(Some(Whole::Control(opcode))) => {
                let pending = self.decoder.pending.as_deref_mut()?;
                pending.given_out = Some(GivenOut::Control);
                let incoming = incoming(opcode, &pending.control);
                self.decoder.ended = incoming.is_err() || opcode == OpCode::Close;
                Some(incoming)
            }
            Ok(Some(Whole::Message)) => self.decoder.whole_message().map(Ok),
            Ok(None) => None,
            Err(error) => {
                self.decoder.ended = true;
                self.decoder.pending = None;
                Some(Err(error))
            }
        }
    }

    /// Returns the number of bytes that compressed messages, or parts of them, have been decompressed to so far.
    pub fn inflated(&self) -> usize {
        self.inflated
    }

    /// Stops after the last returned message and returns the number of input bytes that were consumed. The rest of the input is
    /// unchanged; the caller must feed it to the decoder next.
    pub fn stop(mut self) -> usize {
        let taken = self.at;
        self.input = &mut std::mem::take(&mut self.input)[..taken];
        taken
    }

    /// Decodes until a message or control frame is complete or the input is used up.
    fn advance(&mut self) -> Result<Option<Whole>, DecodeError> {
        loop {
            let (header, offset) = match self.frame()? {
                Some(frame) => frame,
                None => return Ok(None),
            };
            let left = header.length - offset;
            let start = self.at;
            let end =
                usize::try_from(left).map_or(self.input.len(), |left| self.input.len().min(start + left));
            self.at = end;
            let payload = &mut self.input[start..end];
            unmask(payload, header.mask, (offset % 4) as usize);
            let whole = payload.len() as u64 == left;
            let untouched =
                offset == 0 && whole && self.decoder.pending.as_ref().is_none_or(|p| p.message.is_none());
            if untouched && header.fin && !header.rsv1 || offset == 0 && whole && is_control(header.opcode) {
                self.set_frame(None);
                return Ok(Some(Whole::Here { opcode: header.opcode, start, end }));
            }
            if is_control(header.opcode) {
                let pending = self.decoder.pending.get_or_insert_default();
                pending.control.reserve_exact(CONTROL_PAYLOAD_BYTES_MAX.min(header.length as usize));
                pending.control.extend_from_slice(payload);
            } else {
                self.inflated += self.decoder.take_data(&header, offset, &self.input[start..end])?;
            }
            if !whole {
                self.set_frame(Some((header, offset + (end - start) as u64)));
                return Ok(None);
            }
            self.set_frame(None);
            if is_control(header.opcode) {
                return Ok(Some(Whole::Control(header.opcode)));
            }
            if header.fin {
                return Ok(Some(Whole::Message));
            }
        }
    }

    /// Returns the header of the current frame, or of the next one, and how many bytes of its payload have been received.
    fn frame(&mut self) -> Result<Option<(Header, u64)>, DecodeError> {
        if let Some(frame) = self.decoder.pending.as_ref().and_then(|pending| pending.frame) {
            // Without input there is nothing to do. A frame with an empty payload is never incomplete.
            return Ok((self.at < self.input.len()).then_some(frame));
        }
        let input = &self.input[self.at..];
        if input.is_empty() {
            return Ok(None);
        }
        let kept = self.decoder.pending.as_ref().map_or(0, |pending| usize::from(pending.head_length));
        let mut head = [0; HEADER_BYTES_MAX];
        let parsed = if kept == 0 {
            Header::parse(input)?
        } else {
            if let Some(pending) = &self.decoder.pending {
                head = pending.head;
            }
            let more = input.len().min(HEADER_BYTES_MAX - kept);
            head[kept..kept + more].copy_from_slice(&input[..more]);
            Header::parse(&head[..kept + more])?
        };
        let Some((header, length)) = parsed else {
            // An incomplete header is shorter than the longest header, so it fits.
            let pending = self.decoder.pending.get_or_insert_default();
            pending.head[kept..kept + input.len()].copy_from_slice(input);
            pending.head_length = (kept + input.len()) as u8;
            self.at = self.input.len();
            return Ok(None);
        };
        self.decoder.check(&header)?;
        if let Some(pending) = &mut self.decoder.pending {
            pending.head_length = 0;
        }
        self.at += length - kept;
        if header.length > 0 && self.at == self.input.len() {
            self.set_frame(Some((header, 0)));
            return Ok(None);
        }
        Ok(Some((header, 0)))
    }

    fn set_frame(&mut self, frame: Option<(Header, u64)>) {
        match (&mut self.decoder.pending, frame) {
            (None, None) => {}
            (pending, frame) => pending.get_or_insert_default().frame = frame,
        }
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        // The unread rest of the input is lost, so the following bytes would be misread.
        self.decoder.ended |= self.at < self.input.len();
        self.decoder.release();
    }
}

/// Location of a complete message or control payload.
enum Whole {
    /// In the input.
    Here { opcode: OpCode, start: usize, end: usize },
    /// In the pending control payload.
    Control(OpCode),
    /// In the pending message.
    Message,
}

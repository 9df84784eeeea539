//! Decoder from the bytes of a socket to messages.

use super::deflate::{Inflater, Params};
use super::header::{HEADER_BYTES_MAX, Header, is_control};
use super::{DecodeError, Incoming, OpCode};

/// Most bytes that are reserved at the start of a fragmented message. More is only allocated as bytes arrive.
const FIRST_ROOM_BYTES_MAX: u64 = 16 * 1024;

/// Limits and extensions of one connection.
#[derive(Clone, Copy, Debug)]
pub struct DecoderConfig {
    /// Greatest payload of one frame, in bytes as sent.
    pub frame_bytes_max: u32,
    /// Greatest length of a message with all its fragments, in bytes after decompression.
    pub message_bytes_max: u32,
    /// Negotiated parameters of permessage-deflate.
    pub deflate: Option<Params>,
}

/// Decoder for the frames of one client. Between messages it owns no buffer, except for the inflater of a connection that
/// keeps its context between messages.
#[derive(Debug)]
pub struct Decoder {
    frame_bytes_max: u32,
    message_bytes_max: u32,
    /// Whether a close frame or an error has been decoded.
    pub(super) ended: bool,
    /// Inflater, if permessage-deflate was negotiated.
    inflater: Option<Box<Inflater>>,
    /// Received part of an incomplete frame or message.
    pub(super) pending: Option<Box<Pending>>,
}

/// Received part of an incomplete frame or message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// First bytes of an incomplete header.
    pub(super) head: [u8; HEADER_BYTES_MAX],
    pub(super) head_length: u8,
    /// Header of the incomplete frame, and how many bytes of its payload have been received.
    pub(super) frame: Option<(Header, u64)>,
    /// Received payload of an incomplete control frame.
    pub(super) control: Vec<u8>,
    /// Incomplete message.
    pub(super) message: Option<Message>,
    /// Whether the message or control payload has been returned to the caller and can be released.
    pub(super) given_out: Option<GivenOut>,
}

/// Message whose first frame has been received.
#[derive(Debug)]
pub(super) struct Message {
    text: bool,
    compressed: bool,
    /// Payload bytes of the frames so far, as sent.
    sent_bytes: u64,
    /// Received content, unmasked and decompressed.
    bytes: Vec<u8>,
    /// Length of the part that is known to be UTF-8.
    valid_up_to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenOut {
    Message,
    Control,
}

impl Decoder {
    /// Creates a decoder for a new connection. Only allocates if permessage-deflate was negotiated.
    pub fn new(config: DecoderConfig) -> Decoder {
        Decoder {
            frame_bytes_max: config.frame_bytes_max,
            message_bytes_max: config.message_bytes_max,
            ended: false,
            inflater: config.deflate.map(|params| Box::new(Inflater::new(params))),
            pending: None,
        }
    }

    /// Whether no part of a frame or message is kept between reads.
    pub fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether a close frame or an error has been decoded. Nothing is decoded after that.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Checks a header against the limits and the frames before it.
    pub(super) fn check(&self, header: &Header) -> Result<(), DecodeError> {
        if is_control(header.opcode) {
            return Ok(());
        }
        if header.rsv1 && (self.inflater.is_none() || header.opcode == OpCode::Continuation) {
            return Err(DecodeError::ReservedBit);
        }
        let message = self.pending.as_ref().and_then(|pending| pending.message.as_ref());
        match (header.opcode, message) {
            (OpCode::Continuation, None) => return Err(DecodeError::NothingToContinue),
            (OpCode::Continuation, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(DecodeError::NotContinued),
        }
        let sent_bytes = header.length.saturating_add(message.map_or(0, |message| message.sent_bytes));
        if header.length > u64::from(self.frame_bytes_max) || sent_bytes > u64::from(self.message_bytes_max) {
            return Err(DecodeError::TooBig);
        }
        Ok(())
    }

    /// Appends a part of a data frame's payload to the current message, and starts one if there is none. Returns the number of bytes
    /// that the inflater produced.
    pub(super) fn take_data(
        &mut self,
        header: &Header,
        offset: u64,
        payload: &[u8],
    ) -> Result<usize, DecodeError> {
        let pending = self.pending.get_or_insert_default();
        let message = pending.message.get_or_insert_with(|| Message {
            text: header.opcode == OpCode::Text,
            compressed: header.rsv1,
            sent_bytes: 0,
            bytes: Vec::new(),
            valid_up_to: 0,
        });
        if offset == 0 {
            message.sent_bytes += header.length;
        }
        let last = header.fin && offset + payload.len() as u64 == header.length;
        let mut inflated = 0;
        match &mut self.inflater {
            Some(inflater) if message.compressed => {
                let before = message.bytes.len();
                inflater.inflate(payload, last, &mut message.bytes, self.message_bytes_max as usize)?;
                inflated = message.bytes.len() - before;
            }
            _ => {
                if message.bytes.capacity() == 0 {
                    message.bytes.reserve_exact(header.length.min(FIRST_ROOM_BYTES_MAX) as usize);
                }
                message.bytes.extend_from_slice(payload);
            }
        }
        message.check_text(last)?;
        Ok(inflated)
    }

    /// Returns the message that has just been completed.
    pub(super) fn whole_message(&mut self) -> Option<Incoming<'_>> {
        let pending = self.pending.as_deref_mut()?;
        pending.given_out = Some(GivenOut::Message);
        let message = pending.message.as_ref()?;
        if !message.text {
            return Some(Incoming::Binary(&message.bytes));
        }
        std::str::from_utf8(&message.bytes).ok().map(Incoming::Text)
    }

    /// Releases what has been returned to the caller, and all buffers if no frame or message is incomplete.
    pub(super) fn release(&mut self) {
        let Some(pending) = self.pending.as_deref_mut() else { return };
        match pending.given_out.take() {
            Some(GivenOut::Message) => pending.message = None,
            Some(GivenOut::Control) => pending.control = Vec::new(),
            None => {}
        }
        if self.ended || pending.message.is_none() && pending.frame.is_none() && pending.head_length == 0 {
            self.pending = None;
        }
    }
}

impl Message {
    /// Checks the bytes received since the last check, so that invalid text is refused at its first bad byte.
    fn check_text(&mut self, last: bool) -> Result<(), DecodeError> {
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid_up_to..]) {
            Ok(_) => self.valid_up_to = self.bytes.len(),
            Err(error) if error.error_len().is_some() || last => return Err(DecodeError::NotUtf8),
            Err(error) => self.valid_up_to += error.valid_up_to(),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;

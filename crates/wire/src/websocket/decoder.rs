//! From the bytes of a socket to messages.

use super::deflate::{Inflater, Params};
use super::header::{HEADER_BYTES_MAX, Header, is_control};
use super::{DecodeError, Feed, Incoming, OpCode};

/// Of a message that comes in pieces, this much is made room for at once; more only as bytes arrive.
const FIRST_ROOM_BYTES_MAX: u64 = 16 * 1024;

/// Limits and extensions of one connection.
#[derive(Clone, Copy, Debug)]
pub struct DecoderConfig {
    /// How long the payload of one frame may be, bytes as sent.
    pub frame_bytes_max: u32,
    /// How long a message may be, all fragments together, bytes after inflating.
    pub message_bytes_max: u32,
    /// What was negotiated of permessage-deflate.
    pub deflate: Option<Params>,
}

/// Decodes what one client sends. While no message is under way it owns no buffer (but the inflater of a connection that
/// keeps its context between messages).
#[derive(Debug)]
pub struct Decoder {
    frame_bytes_max: u32,
    message_bytes_max: u32,
    /// A close frame or an error has come.
    pub(super) ended: bool,
    /// Of a connection that negotiated permessage-deflate.
    inflater: Option<Box<Inflater>>,
    /// What has come of an incomplete frame or message.
    pub(super) pending: Option<Box<Pending>>,
}

/// What has come of an incomplete frame or message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The first bytes of a header.
    pub(super) head: [u8; HEADER_BYTES_MAX],
    pub(super) head_length: u8,
    /// The frame whose payload is coming, and how much of it has come.
    pub(super) frame: Option<(Header, u64)>,
    /// The payload of the control frame that is coming.
    pub(super) control: Vec<u8>,
    /// The message that has started.
    pub(super) message: Option<Message>,
    /// A message or control payload of here was given out; it is of no use any more.
    pub(super) given_out: Option<GivenOut>,
}

/// A message that has started.
#[derive(Debug)]
pub(super) struct Message {
    text: bool,
    compressed: bool,
    /// Bytes of the frames so far, as sent.
    sent_bytes: u64,
    /// What has come: unmasked, inflated.
    bytes: Vec<u8>,
    /// How much of it is known to be UTF-8.
    valid_up_to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenOut {
    Message,
    Control,
}

impl Decoder {
    /// A decoder for a new connection. Allocates only where permessage-deflate was negotiated.
    pub fn new(config: DecoderConfig) -> Decoder {
        Decoder {
            frame_bytes_max: config.frame_bytes_max,
            message_bytes_max: config.message_bytes_max,
            ended: false,
            inflater: config.deflate.map(|params| Box::new(Inflater::new(params))),
            pending: None,
        }
    }

    /// Takes what was read from the socket, to be unmasked in place. The [`Feed`] is to be gone through to its end, or
    /// [stopped](Feed::stop); where it is dropped before, the decoder has ended.
    pub fn feed<'a>(&'a mut self, input: &'a mut [u8]) -> Feed<'a> {
        Feed { decoder: self, input, at: 0, inflated: 0 }
    }

    /// Whether nothing is kept between reads: no part of a frame or message.
    pub fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether a close frame or an error has come, after which nothing more is decoded.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Checks what a header says against what came before it.
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

    /// Takes a part of the payload of a data frame into the message under way, which the first frame starts. Gives how many bytes
    /// the inflater made of it.
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

    /// Gives out the message that has just become whole.
    pub(super) fn whole_message(&mut self) -> Option<Incoming<'_>> {
        let pending = self.pending.as_deref_mut()?;
        pending.given_out = Some(GivenOut::Message);
        let message = pending.message.as_ref()?;
        if !message.text {
            return Some(Incoming::Binary(&message.bytes));
        }
        std::str::from_utf8(&message.bytes).ok().map(Incoming::Text)
    }

    /// Lets go of what was given out, and of everything when nothing is under way.
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
    /// Checks what has come since the last check, so that bad text is refused at its first bad byte.
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

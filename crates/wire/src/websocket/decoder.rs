//! From the bytes of a socket to messages.

use super::deflate::{InflateError, Inflater, Params};
use super::header::{HEADER_BYTES_MAX, Header};
use super::{CONTROL_PAYLOAD_BYTES_MAX, OpCode, unmask};
use crate::protocol::CloseReason;

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

/// A whole message or control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered by [`super::pong_frame`].
    Ping(&'a [u8]),
    /// A sign of life.
    Pong(&'a [u8]),
    /// The client's last frame: its code, if it gave one, and its reason. To be answered by [`super::close_reply`], unless a
    /// close frame was sent before. What comes after it is ignored.
    Close(Option<u16>, &'a str),
}

/// The client broke the protocol. [`DecodeError::close_reason`] says what to close with; the decoder takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A reserved bit that no negotiated extension gives a meaning.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode that has no meaning.
    #[error("a reserved opcode")]
    ReservedOpCode,
    /// Clients must mask.
    #[error("a frame is not masked")]
    NotMasked,
    /// A ping, pong or close in parts.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A ping, pong or close of more than 125 bytes.
    #[error("a control frame is too long")]
    LongControl,
    /// A length whose highest bit is set.
    #[error("a length beyond 63 bits")]
    BadLength,
    /// A continuation of nothing.
    #[error("a continuation without a start")]
    NothingToContinue,
    /// A message within a message.
    #[error("a message starts before the last one has ended")]
    NotContinued,
    /// A close frame with half a code, or a code that must not be sent.
    #[error("a close frame with a bad code")]
    BadCloseCode,
    /// Not UTF-8 in a text message or in the reason of a close frame.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// Over `frame_bytes_max` or `message_bytes_max`.
    #[error("a message over the limit")]
    TooBig,
    /// Compressed data that can't be inflated.
    #[error("data that is not DEFLATE")]
    NotDeflate,
}

impl DecodeError {
    /// What to close the connection with.
    pub fn close_reason(self) -> CloseReason {
        match self {
            DecodeError::NotUtf8 | DecodeError::NotDeflate => CloseReason::InvalidPayload,
            DecodeError::TooBig => CloseReason::TooBig,
            _ => CloseReason::Protocol,
        }
    }
}

/// Decodes what one client sends. While no message is under way it owns no buffer (but the inflater of a connection that
/// keeps its context between messages).
#[derive(Debug)]
pub struct Decoder {
    frame_bytes_max: u32,
    message_bytes_max: u32,
    /// A close frame or an error has come.
    ended: bool,
    /// Of a connection that negotiated permessage-deflate.
    inflater: Option<Box<Inflater>>,
    /// What has come of an incomplete frame or message.
    pending: Option<Box<Pending>>,
}

/// What has come of an incomplete frame or message.
#[derive(Debug, Default)]
struct Pending {
    /// The first bytes of a header.
    head: [u8; HEADER_BYTES_MAX],
    head_length: u8,
    /// The frame whose payload is coming, and how much of it has come.
    frame: Option<(Header, u64)>,
    /// The payload of the control frame that is coming.
    control: Vec<u8>,
    /// The message that has started.
    message: Option<Message>,
    /// A message or control payload of here was given out; it is of no use any more.
    given_out: Option<GivenOut>,
}

/// A message that has started.
#[derive(Debug)]
struct Message {
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
enum GivenOut {
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

    /// Takes what was read from the socket, to be unmasked in place. Whatever is not taken out of the [`Feed`] before it is
    /// dropped is lost.
    pub fn feed<'a>(&'a mut self, input: &'a mut [u8]) -> Feed<'a> {
        Feed { decoder: self, input, at: 0 }
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
    fn check(&self, header: &Header) -> Result<(), DecodeError> {
        if header.opcode.is_control() {
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

    /// Takes a part of the payload of a data frame into the message under way, which the first frame starts.
    fn take_data(&mut self, header: &Header, offset: u64, payload: &[u8]) -> Result<(), DecodeError> {
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
        match &mut self.inflater {
            Some(inflater) if message.compressed => {
                inflater.inflate(payload, last, &mut message.bytes, self.message_bytes_max as usize)?;
            }
            _ => {
                if message.bytes.capacity() == 0 {
                    message.bytes.reserve_exact(header.length.min(FIRST_ROOM_BYTES_MAX) as usize);
                }
                message.bytes.extend_from_slice(payload);
            }
        }
        message.check_text(last)
    }

    /// Gives out the message that has just become whole.
    fn whole_message(&mut self) -> Option<Incoming<'_>> {
        let pending = self.pending.as_deref_mut()?;
        pending.given_out = Some(GivenOut::Message);
        let message = pending.message.as_ref()?;
        if !message.text {
            return Some(Incoming::Binary(&message.bytes));
        }
        std::str::from_utf8(&message.bytes).ok().map(Incoming::Text)
    }

    /// Lets go of what was given out, and of everything when nothing is under way.
    fn release(&mut self) {
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

/// The messages in what was read from a socket. A lending iterator: each message is used before the next is asked for.
#[derive(Debug)]
pub struct Feed<'a> {
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    at: usize,
}

impl Feed<'_> {
    /// The next whole message; `None` when the input is used up (what is left over is kept) or the decoder has ended.
    ///
    /// # Errors
    ///
    /// The client broke the protocol. Nothing follows.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives borrows from it, which Iterator can't express"
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

    /// Goes on until something is whole or the input is used up.
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
            if untouched && header.fin && !header.rsv1 || offset == 0 && whole && header.opcode.is_control() {
                self.set_frame(None);
                return Ok(Some(Whole::Here { opcode: header.opcode, start, end }));
            }
            if header.opcode.is_control() {
                let pending = self.decoder.pending.get_or_insert_default();
                pending.control.reserve_exact(CONTROL_PAYLOAD_BYTES_MAX.min(header.length as usize));
                pending.control.extend_from_slice(payload);
            } else {
                self.decoder.take_data(&header, offset, &self.input[start..end])?;
            }
            if !whole {
                self.set_frame(Some((header, offset + (end - start) as u64)));
                return Ok(None);
            }
            self.set_frame(None);
            if header.opcode.is_control() {
                return Ok(Some(Whole::Control(header.opcode)));
            }
            if header.fin {
                return Ok(Some(Whole::Message));
            }
        }
    }

    /// The frame that is being read and how much of its payload has come: the one under way, or the next one.
    fn frame(&mut self) -> Result<Option<(Header, u64)>, DecodeError> {
        if let Some(frame) = self.decoder.pending.as_ref().and_then(|pending| pending.frame) {
            // Nothing can come of no input, and a payload of no bytes is never under way.
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
            // Fewer bytes than the longest header has, so all of them fit.
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
        self.decoder.release();
    }
}

/// Where a whole message or control payload lies.
enum Whole {
    /// In the input.
    Here { opcode: OpCode, start: usize, end: usize },
    /// In the pending control payload.
    Control(OpCode),
    /// In the pending message.
    Message,
}

fn incoming(opcode: OpCode, payload: &[u8]) -> Result<Incoming<'_>, DecodeError> {
    Ok(match opcode {
        OpCode::Text => Incoming::Text(utf8(payload)?),
        OpCode::Binary | OpCode::Continuation => Incoming::Binary(payload),
        OpCode::Ping => Incoming::Ping(payload),
        OpCode::Pong => Incoming::Pong(payload),
        OpCode::Close => match payload.split_first_chunk() {
            None if payload.is_empty() => Incoming::Close(None, ""),
            Some((code, reason)) if may_be_sent(u16::from_be_bytes(*code)) => {
                Incoming::Close(Some(u16::from_be_bytes(*code)), utf8(reason)?)
            }
            _ => return Err(DecodeError::BadCloseCode),
        },
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
}

/// Whether a close frame may carry a code (RFC 6455, section 7.4, and IANA's registry).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl From<InflateError> for DecodeError {
    fn from(error: InflateError) -> DecodeError {
        match error {
            InflateError::TooBig => DecodeError::TooBig,
            InflateError::NotDeflate => DecodeError::NotDeflate,
        }
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;

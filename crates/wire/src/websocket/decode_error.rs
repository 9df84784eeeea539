//! Errors of the decoder.

use super::deflate::InflateError;
use crate::protocol::CloseReason;

/// Violation of the WebSocket protocol by a client. [`DecodeError::close_reason`] returns the close code. The decoder accepts
/// nothing after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A reserved bit is set that no negotiated extension uses.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// The opcode is not defined.
    #[error("the opcode is reserved")]
    ReservedOpCode,
    /// The frame is not masked, although clients must mask.
    #[error("a frame is not masked")]
    NotMasked,
    /// A ping, pong or close frame is fragmented.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A ping, pong or close frame has more than 125 bytes.
    #[error("a control frame is too long")]
    LongControl,
    /// The highest bit of the length is set.
    #[error("the length of a frame exceeds 63 bits")]
    BadLength,
    /// A continuation frame without a message to continue.
    #[error("a continuation without a start")]
    NothingToContinue,
    /// A new message starts before the previous one has ended.
    #[error("a message starts before the last one has ended")]
    NotContinued,
    /// A close frame has half a code, or a code that must not be sent.
    #[error("a close frame has a bad code")]
    BadCloseCode,
    /// A text message or the reason of a close frame is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A frame or message exceeds `frame_bytes_max` or `message_bytes_max`.
    #[error("a message exceeds the limit")]
    TooBig,
    /// Compressed data cannot be decompressed.
    #[error("compressed data is not DEFLATE")]
    NotDeflate,
}

impl DecodeError {
    /// Returns the reason to close the connection with.
    pub fn close_reason(self) -> CloseReason {
        match self {
            DecodeError::NotUtf8 | DecodeError::NotDeflate => CloseReason::InvalidPayload,
            DecodeError::TooBig => CloseReason::TooBig,
            _ => CloseReason::Protocol,
        }
    }
}

impl From<InflateError> for DecodeError {
    fn from(error: InflateError) -> DecodeError {
        match error {
            InflateError::TooBig => DecodeError::TooBig,
            InflateError::NotDeflate => DecodeError::NotDeflate,
        }
    }
}

//! How a client can break the protocol.

use super::deflate::InflateError;
use crate::protocol::CloseReason;

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

impl From<InflateError> for DecodeError {
    fn from(error: InflateError) -> DecodeError {
        match error {
            InflateError::TooBig => DecodeError::TooBig,
            InflateError::NotDeflate => DecodeError::NotDeflate,
        }
    }
}

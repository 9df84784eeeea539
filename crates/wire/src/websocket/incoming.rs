//! Messages and control frames of a client.

use fastwebsockets::{CloseCode, OpCode};

use super::DecodeError;

/// Complete message or control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Text message.
    Text(&'a str),
    /// Binary message.
    Binary(&'a [u8]),
    /// Ping. The reply is [`super::pong_frame`].
    Ping(&'a [u8]),
    /// Pong, which only shows that the client is alive.
    Pong(&'a [u8]),
    /// Close frame with its code, if there is one, and its reason. The reply is [`super::close_reply`], unless a
    /// close frame was sent before. Anything after it is ignored.
    Close(Option<u16>, &'a str),
}

/// Interprets a complete payload.
pub(super) fn incoming(opcode: OpCode, payload: &[u8]) -> Result<Incoming<'_>, DecodeError> {
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

/// Whether a close frame may carry this code (RFC 6455, section 7.4, and IANA's registry, which has added 1014).
fn may_be_sent(code: u16) -> bool {
    CloseCode::from(code).is_allowed() || code == 1014
}

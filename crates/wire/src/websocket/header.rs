//! A client's frame header (RFC 6455, section 5.2).

use fastwebsockets::OpCode;

use super::DecodeError;

/// The longest header: 2 bytes, 8 of length, 4 of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// RSV1: compressed.
    pub(super) rsv1: bool,
    pub(super) opcode: OpCode,
    pub(super) mask: [u8; 4],
    /// Payload's length.
    pub(super) length: u64,
}

impl Header {
    /// Reads a header and gives how long it is; `None` where bytes are missing. What is wrong in the first two bytes is told
    /// as soon as those are there.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, DecodeError> {
        let Some([first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err(DecodeError::ReservedBit);
        }
        let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
        let opcode = OpCode::try_from(first & 0x0f).map_err(|_| DecodeError::ReservedOpCode)?;
        if second & 0x80 == 0 {
            return Err(DecodeError::NotMasked);
        }
        let short = second & 0x7f;
        if is_control(opcode) {
            if !fin {
                return Err(DecodeError::FragmentedControl);
            }
            if rsv1 {
                return Err(DecodeError::ReservedBit);
            }
            if short > 125 {
                return Err(DecodeError::LongControl);
            }
        }
        let rest = &bytes[2..];
        let length = match short {
            126 => rest.first_chunk().map(|length| (u64::from(u16::from_be_bytes(*length)), 2)),
            127 => rest.first_chunk().map(|length| (u64::from_be_bytes(*length), 8)),
            _ => Some((u64::from(short), 0)),
        };
        let Some((length, width)) = length else { return Ok(None) };
        if length >> 63 != 0 {
            return Err(DecodeError::BadLength);
        }
        let Some(mask) = rest[width..].first_chunk() else { return Ok(None) };
        Ok(Some((Header { fin, rsv1, opcode, mask: *mask, length }, 2 + width + 4)))
    }
}

/// Whether it is a close, ping or pong, which may stand between the parts of a message.
pub(super) fn is_control(opcode: OpCode) -> bool {
    opcode as u8 & 0x8 != 0
}

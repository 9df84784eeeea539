//! Header of a client's frame (RFC 6455, section 5.2).

use fastwebsockets::OpCode;

use super::DecodeError;

/// Length of the longest header in bytes: 2, then 8 for the length and 4 for the mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// Frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// Bit RSV1, which marks a compressed message.
    pub(super) rsv1: bool,
    pub(super) opcode: OpCode,
    pub(super) mask: [u8; 4],
    /// Length of the payload in bytes.
    pub(super) length: u64,
}

impl Header {
    /// Parses a header and returns it with its length; `None` if bytes are missing. Errors in the first two bytes are reported
    /// as soon as these have arrived.
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

/// Whether this is a close, ping or pong frame. Control frames may appear between the fragments of a message.
pub(super) fn is_control(opcode: OpCode) -> bool {
    opcode as u8 & 0x8 != 0
}

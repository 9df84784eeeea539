//! A server's frames: unmasked and final.

use bytes::Bytes;

/// How long the payload of a ping, pong or close frame may be.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Length of the longest header of a server's frame.
const HEADER_BYTES_MAX: usize = 10;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further part of a message.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The last frame.
    Close = 8,
    /// To be answered by a pong.
    Ping = 9,
    /// A sign of life.
    Pong = 10,
}

impl OpCode {
    /// Reads the four bits of a header; `None` for reserved ones.
    pub fn from_bits(bits: u8) -> Option<OpCode> {
        Some(match bits {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return None,
        })
    }

    /// Whether it is a close, ping or pong, which may stand between the parts of a message.
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// A payload to be written right behind the room for its header, so that a frame is one buffer and is written once.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Makes room for a payload of about this many bytes.
    pub fn with_capacity(payload_bytes: usize) -> FrameBuffer {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + payload_bytes);
        bytes.resize(HEADER_BYTES_MAX, 0);
        FrameBuffer { bytes }
    }

    /// Where to append the payload. What stands there already (room for the header) must be left alone.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes the header and gives the frame.
    pub fn finish(self, opcode: OpCode) -> Bytes {
        self.finish_with(FIN | opcode as u8)
    }

    /// Like [`FrameBuffer::finish`], for a compressed payload.
    pub(super) fn finish_compressed(self, opcode: OpCode) -> Bytes {
        self.finish_with(FIN | RSV1 | opcode as u8)
    }

    fn finish_with(mut self, first: u8) -> Bytes {
        let length = self.bytes.len().saturating_sub(HEADER_BYTES_MAX);
        let (header, width) = header(first, length);
        let start = HEADER_BYTES_MAX - width;
        self.bytes[start..HEADER_BYTES_MAX].copy_from_slice(&header[..width]);
        Bytes::from(self.bytes).slice(start..)
    }
}

/// The payload of a finished, unmasked frame.
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let width = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(width..).unwrap_or_default()
}

/// A close frame. A reason that is too long is cut at a character.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_BYTES_MAX - 2)];
    let mut frame = FrameBuffer::with_capacity(2 + reason.len());
    frame.payload().extend_from_slice(&code.to_be_bytes());
    frame.payload().extend_from_slice(reason.as_bytes());
    frame.finish(OpCode::Close)
}

/// The answer to a client's close frame: its own code, or 1000 where it gave none.
pub fn close_reply(code: Option<u16>) -> Bytes {
    close_frame(code.unwrap_or(1000), "")
}

/// A ping without payload: the same static bytes for everyone.
pub fn ping_frame() -> Bytes {
    Bytes::from_static(&[FIN | OpCode::Ping as u8, 0])
}

/// The answer to a ping. A payload that is too long, which no decoded ping has, is cut.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(OpCode::Pong)
}

/// A server's header and its length.
fn header(first: u8, length: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = first;
    if length <= 125 {
        header[1] = length as u8;
        (header, 2)
    } else if let Ok(length) = u16::try_from(length) {
        header[1] = 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..].copy_from_slice(&(length as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_shortest_header_and_gives_its_payload_back() {
        for (length, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![7; length];
            let mut buffer = FrameBuffer::with_capacity(10);
            buffer.payload().extend_from_slice(&payload);
            let frame = buffer.finish(OpCode::Binary);
            assert_eq!(frame[..header.len()], header);
            assert_eq!(payload_of(&frame), payload);
        }
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        assert_eq!(ping_frame()[..], [0x89, 0]);
        assert_eq!(pong_frame(b"ab")[..], [0x8a, 2, b'a', b'b']);
        assert_eq!(pong_frame(&[0; 200]).len(), 127);
        assert_eq!(close_frame(4409, "x")[..], [0x88, 3, 0x11, 0x39, b'x']);
        let long = close_frame(1000, &"é".repeat(100));
        assert_eq!(long.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&long[4..]).is_ok());
        assert_eq!(close_reply(None)[..], [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn payload_of_no_frame_is_empty() {
        assert_eq!(payload_of(&[]), b"");
        assert_eq!(payload_of(&[0x81, 126, 0]), b"");
    }
}

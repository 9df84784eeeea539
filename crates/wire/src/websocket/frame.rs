//! Frames of a server, which are unmasked and final.

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload};

/// Greatest payload of a ping, pong or close frame in bytes.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Length of the longest header of a server's frame in bytes.
const HEADER_BYTES_MAX: usize = 10;
const FIN: u8 = 0x80;
/// Bit RSV1, which marks a compressed message.
const RSV1: u8 = 0x40;

/// Buffer for a frame. The payload is appended after space reserved for the header, so that the frame is one buffer and needs one write.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Creates a buffer for a payload of about this many bytes.
    pub fn with_capacity(payload_bytes: usize) -> FrameBuffer {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + payload_bytes);
        bytes.resize(HEADER_BYTES_MAX, 0);
        FrameBuffer { bytes }
    }

    /// Returns the vector to append the payload to. Its existing bytes are reserved for the header and must not be changed.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes the header and returns the frame.
    pub fn finish(self, opcode: OpCode) -> Bytes {
        self.finish_with(opcode, 0)
    }

    /// Like [`FrameBuffer::finish`], for a compressed payload.
    pub(super) fn finish_compressed(self, opcode: OpCode) -> Bytes {
        self.finish_with(opcode, RSV1)
    }

    fn finish_with(mut self, opcode: OpCode, reserved: u8) -> Bytes {
        let (room, payload) = self.bytes.split_at_mut(HEADER_BYTES_MAX);
        let mut header = [0; HEADER_BYTES_MAX];
        let width = Frame::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut header);
        header[0] |= reserved;
        let start = HEADER_BYTES_MAX - width;
        room[start..].copy_from_slice(&header[..width]);
        Bytes::from(self.bytes).slice(start..)
    }
}

/// Returns the payload of a finished, unmasked frame.
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let width = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(width..).unwrap_or_default()
}

/// Returns a close frame. A reason that is too long is truncated between two characters.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_BYTES_MAX - 2)];
    let mut frame = FrameBuffer::with_capacity(2 + reason.len());
    frame.payload().extend_from_slice(&code.to_be_bytes());
    frame.payload().extend_from_slice(reason.as_bytes());
    frame.finish(OpCode::Close)
}

/// Returns the reply to a client's close frame: with the client's code, or 1000 if it sent none.
pub fn close_reply(code: Option<u16>) -> Bytes {
    close_frame(code.unwrap_or(1000), "")
}

/// Returns a ping without payload. All callers share the same static bytes.
pub fn ping_frame() -> Bytes {
    Bytes::from_static(&[FIN | OpCode::Ping as u8, 0])
}

/// Returns the reply to a ping. A payload that is too long is truncated; no decoded ping has one.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
    let mut frame = FrameBuffer::with_capacity(payload.len());
    frame.payload().extend_from_slice(payload);
    frame.finish(OpCode::Pong)
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

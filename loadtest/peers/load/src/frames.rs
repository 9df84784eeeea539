//! WebSocket frames: written as a client or as a server, and split as either reads them.

/// The kind of a frame with text.
pub const TEXT: u8 = 1;
/// The kind of a frame with bytes.
pub const BINARY: u8 = 2;
/// The kind of the frame that ends a connection.
pub const CLOSE: u8 = 8;
/// The kind of a question for a sign of life.
pub const PING: u8 = 9;
/// The kind of its answer.
pub const PONG: u8 = 10;

/// The mask of all frames that the generator sends. It needs no secret one: nothing stands between.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a masked frame, as clients send them, whose payload consists of these parts.
pub fn write_client(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    write_header(out, kind, parts.iter().map(|part| part.len()).sum(), 0x80);
    out.extend_from_slice(&MASK);
    let payload = parts.iter().flat_map(|part| part.iter());
    out.extend(payload.zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a frame as servers send them.
pub fn write_server(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    write_header(out, kind, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn write_header(out: &mut Vec<u8>, kind: u8, length: usize, masked: u8) {
    out.push(0x80 | kind);
    match length {
        ..126 => out.push(masked | length as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The first frame in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Whether no further part of the message follows.
    pub last: bool,
    /// The mask of its payload, if it has one.
    pub mask: Option<[u8; 4]>,
    /// Where its payload begins.
    pub begin: usize,
    /// Where it ends.
    pub end: usize,
}

/// The first frame, if all of it is there.
pub fn first(bytes: &[u8]) -> Option<Frame> {
    let (kind, second) = (*bytes.first()?, *bytes.get(1)?);
    let (mut begin, length) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        length => (2, u64::from(length)),
    };
    let mask = if second & 0x80 != 0 {
        begin += 4;
        Some(bytes.get(begin - 4..begin)?.try_into().ok()?)
    } else {
        None
    };
    let end = begin.checked_add(usize::try_from(length).ok()?)?;
    (bytes.len() >= end).then_some(Frame { kind: kind & 0x0f, last: kind & 0x80 != 0, mask, begin, end })
}

/// Removes the mask of a payload.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_split_again_only_when_it_is_complete() {
        for length in [0, 5, 125, 126, 300, 65_535, 65_536] {
            let payload = vec![b'p'; length];
            let (mut client, mut server) = (Vec::new(), Vec::new());
            write_client(&mut client, TEXT, &[&payload[..length / 2], &payload[length / 2..]]);
            write_server(&mut server, BINARY, &payload);
            for (mut bytes, kind) in [(client, TEXT), (server, BINARY)] {
                assert_eq!(first(&bytes[..bytes.len() - 1]), None);
                let frame = first(&bytes).unwrap();
                assert_eq!((frame.kind, frame.end, frame.last), (kind, bytes.len(), true));
                let body = &mut bytes[frame.begin..frame.end];
                if let Some(mask) = frame.mask {
                    unmask(body, mask);
                }
                assert_eq!(body, payload);
            }
        }
        assert_eq!(first(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}

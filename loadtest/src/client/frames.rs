//! WebSocket frames of a client (RFC 6455): it masks what it sends, and what it receives is not masked.

use anyhow::{Result, bail, ensure};

/// The longest frame that a client takes.
const FRAME_MAX: u64 = 16 * 1024 * 1024;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A question for a sign of life.
    Ping = 9,
    /// The answer to it.
    Pong = 10,
}

impl Opcode {
    fn of(bits: u8) -> Result<Self> {
        Ok(match bits {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => bail!("a frame of kind {other}: the server fragments, or does not speak WebSocket"),
        })
    }
}

/// Appends a frame with this payload.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ ..126 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Splits what a server sends into frames. It keeps bytes only while a frame is incomplete.
#[derive(Debug, Default)]
pub struct Frames {
    incomplete: Vec<u8>,
}

impl Frames {
    /// Takes bytes that were read, and passes on each complete frame.
    ///
    /// # Errors
    /// When the bytes are no frames of a server.
    pub fn feed(&mut self, read: &[u8], mut each: impl FnMut(Opcode, &[u8]) -> Result<()>) -> Result<()> {
        if self.incomplete.is_empty() {
            let used = split(read, &mut each)?;
            self.incomplete.extend_from_slice(&read[used..]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.incomplete);
        bytes.extend_from_slice(read);
        let used = split(&bytes, &mut each)?;
        if used < bytes.len() {
            bytes.drain(..used);
            self.incomplete = bytes;
        }
        Ok(())
    }
}

/// Returns how many bytes belong to complete frames.
fn split(bytes: &[u8], each: &mut impl FnMut(Opcode, &[u8]) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((opcode, header, length)) = header(&bytes[used..])? {
        let Some(payload) = bytes.get(used + header..used + header + length) else { break };
        each(opcode, payload)?;
        used += header + length;
    }
    Ok(used)
}

/// The kind of the frame, and the lengths of its header and payload.
fn header(bytes: &[u8]) -> Result<Option<(Opcode, usize, usize)>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    ensure!(first & 0xf0 == 0x80, "the server sent a fragment or a reserved bit");
    ensure!(second & 0x80 == 0, "the server masks its frames");
    let extended = |length: usize| bytes.get(2..2 + length);
    let (header, length) = match second {
        126 => match extended(2) {
            Some(digits) => (4, u64::from(u16::from_be_bytes([digits[0], digits[1]]))),
            None => return Ok(None),
        },
        127 => match extended(8).map(<[u8; 8]>::try_from) {
            Some(Ok(digits)) => (10, u64::from_be_bytes(digits)),
            _ => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    ensure!(length <= FRAME_MAX, "the server announces a frame of {length} bytes");
    Ok(Some((Opcode::of(first & 0x0f)?, header, usize::try_from(length)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of a server.
    fn unmasked(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x81];
        match payload.len() {
            length @ ..126 => frame.push(length as u8),
            length @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_were_however_the_bytes_are_cut(
            lengths in proptest::collection::vec(prop_oneof![0_usize..300, 65_000_usize..66_000], 1..6),
            cuts in proptest::collection::vec(1_usize..70_000, 1..8),
        ) {
            let payloads: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(index, length)| vec![index as u8; *length]).collect();
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| unmasked(payload)).collect();
            let (mut frames, mut out, mut rest) = (Frames::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.feed(now, |_, payload| { out.push(payload.to_vec()); Ok(()) }).unwrap();
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(out, payloads);
            prop_assert!(frames.incomplete.is_empty());
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for bytes in [&[0x81, 0x80, 0, 0][..], &[0x01, 0], &[0x83, 0], &[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(Frames::default().feed(bytes, |_, _| Ok(())).is_err(), "{bytes:?}");
        }
    }
}

//! The marker that every message of a run carries: who sent it, and when it was due.

use std::io::Write;

use memchr::memmem;

/// The length of a marker: `~LT`, 8 digits for the sender, 12 for the time, `~`.
pub const MARKER_BYTES: usize = 24;

const BEGINNING: &[u8] = b"~LT";

/// Who sent a message, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The index of the sending session.
    pub sender: u32,
    /// Microseconds after the start of the run at which the message was due. A message that was sent late counts from then, so
    /// that a slow server can't hide its delays by slowing the generator down.
    pub due_us: u64,
}

impl Marker {
    /// Appends the marker and as many letters as make `bytes` in all.
    pub fn write(self, out: &mut Vec<u8>, bytes: usize) {
        let end = out.len() + bytes;
        // Writing to a vector can't fail.
        let _ = write!(out, "~LT{:08x}{:012x}~", self.sender, self.due_us & 0xffff_ffff_ffff);
        out.resize(end.max(out.len()), b'x');
    }

    /// Finds the marker in a frame, and where it begins.
    pub fn find(frame: &[u8]) -> Option<(usize, Self)> {
        let at = memmem::find(frame, BEGINNING)?;
        let digits = |from: usize, length: usize| {
            let text = std::str::from_utf8(frame.get(at + from..at + from + length)?).ok()?;
            u64::from_str_radix(text, 16).ok()
        };
        let (sender, due_us) = (digits(3, 8)?, digits(11, 12)?);
        (frame.get(at + MARKER_BYTES - 1) == Some(&b'~'))
            .then_some((at, Self { sender: u32::try_from(sender).ok()?, due_us }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_and_what_is_cut_is_not() {
        let marker = Marker { sender: 77, due_us: 123_456_789 };
        let mut frame = b"{\"content\":\"".to_vec();
        marker.write(&mut frame, 100);
        assert_eq!(frame.len(), 112);
        assert_eq!(Marker::find(&frame), Some((12, marker)));
        for cut in 12..12 + MARKER_BYTES {
            assert_eq!(Marker::find(&frame[..cut]), None);
        }
    }
}

//! The marker in a payload: when a message was due, and its number. A delivery is recognised by it in any protocol.

use std::io::Write;

/// What a marker begins with. No server writes it by itself.
const BEGIN: &[u8; 2] = b"~#";
/// The length of a marker: the beginning, 16 hexadecimal digits of time and 8 of the number.
pub const MARKER_BYTES: usize = 26;

/// When a message was due, in nanoseconds of the generator's clock, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// When it was due.
    pub due_ns: u64,
    /// Its number.
    pub number: u32,
}

impl Marker {
    /// Replaces a buffer's contents with a payload of this size that begins with the marker.
    pub fn write(self, payload: &mut Vec<u8>, bytes: usize) {
        payload.clear();
        payload.extend_from_slice(BEGIN);
        // Writing to a vector can't fail.
        let _ = write!(payload, "{:016x}{:08x}", self.due_ns, self.number);
        payload.extend((payload.len()..bytes).map(|index| b'a' + (index % 26) as u8));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.strip_prefix(BEGIN)?;
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_u64, |sum, digit| {
                let value = (*digit as char).to_digit(16)?;
                Some(sum << 4 | u64::from(value))
            })
        };
        let due_ns = number(digits.get(..16)?)?;
        Some(Self { due_ns, number: u32::try_from(number(digits.get(16..24)?)?).ok()? })
    }
}

/// Calls `each` for every marker in these bytes. Returns how many bytes at the end may be the beginning of a marker that goes on in the next ones.
pub fn scan(bytes: &[u8], mut each: impl FnMut(Marker)) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr(BEGIN[0], &bytes[at..]) {
        let rest = &bytes[at + found..];
        if rest.len() < MARKER_BYTES {
            return rest.len();
        }
        match Marker::read(rest) {
            Some(marker) => {
                each(marker);
                at += found + MARKER_BYTES;
            }
            None => at += found + 1,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_markers_are_found_also_when_the_bytes_are_cut() {
        let mut bytes = b"x~y".to_vec();
        let mut payload = Vec::new();
        for number in 0..3 {
            Marker { due_ns: 1_000 + u64::from(number), number }.write(&mut payload, 64);
            assert_eq!(payload.len(), 64);
            bytes.extend_from_slice(&payload);
        }
        for cut in 0..bytes.len() {
            let mut found = Vec::new();
            let kept = scan(&bytes[..cut], |marker| found.push(marker.number));
            let kept = kept.min(MARKER_BYTES - 1);
            scan(&bytes[cut - kept..], |marker| found.push(marker.number));
            assert_eq!(found, [0, 1, 2], "cut at {cut}");
        }
    }
}

//! UUIDs as text.

use serde::{Serialize, Serializer};

/// Length of the text, bytes.
pub(super) const LENGTH: usize = 36;

/// Writes a UUID as 8-4-4-4-12 lower-case hexadecimal digits.
pub(super) fn text(id: u128, buffer: &mut [u8; LENGTH]) -> &str {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (index, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            buffer[at] = b'-';
            at += 1;
        }
        buffer[at] = HEX[usize::from(byte >> 4)];
        buffer[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// Serializes a UUID as text, for serde's `serialize_with`.
pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    text(*id, &mut [0; LENGTH]).serialize(serializer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_is_written_as_rfc_9562_says() {
        let id = 0x0193_5b6e_7f00_7abc_8def_0123_4567_89ab;
        assert_eq!(super::text(id, &mut [0; super::LENGTH]), "01935b6e-7f00-7abc-8def-0123456789ab");
        assert_eq!(super::text(0, &mut [0; super::LENGTH]), "00000000-0000-0000-0000-000000000000");
    }
}

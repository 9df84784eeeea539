//! Masking of frames, which clients must do (RFC 6455, section 5.3).

/// Removes (or applies) a mask in place. `offset` is the number of bytes of the same payload before these.
pub fn unmask(bytes: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    fastwebsockets::unmask(bytes, mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn unmasking_in_pieces_is_the_same_as_byte_by_byte(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
            mask: [u8; 4],
            cut in 0usize..100,
        ) {
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let mut actual = bytes.clone();
            let cut = cut.min(bytes.len());
            let (first, second) = actual.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut);
            proptest::prop_assert_eq!(actual, expected);
        }
    }
}

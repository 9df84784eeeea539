//! Names of conversations, topics and users.

/// How long a name may be, characters (all of one byte).
pub const NAME_LENGTH_MAX: usize = 100;

/// Whether this is a name: 1–100 characters out of `A-Z a-z 0-9 _ . : @ -`, but not `.` or `..`.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'@' | b'-'))
}

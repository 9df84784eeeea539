//! The rule for names.

/// How long a name may be, characters (all of one byte).
pub const NAME_LENGTH_MAX: usize = 100;

/// The rule, as a message for a caller who broke it.
pub const NAME_RULE: &str = "1 to 100 characters out of A-Z a-z 0-9 _ . : @ -, but not . or ..";

/// Whether this is a name, as [`NAME_RULE`] says.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'@' | b'-'))
}

/// A text that breaks the rule for names. The giver's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has {NAME_RULE}")]
pub struct NotAName;

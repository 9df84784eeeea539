//! The number of a message in its conversation.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a message in its conversation's log: 1, 2, 3 … A head, a cursor or a read mark is the number of the last message, and
/// [`Seq::ZERO`] before the first one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The position before the first message.
    pub const ZERO: Seq = Seq(0);
    /// A number that no message reaches.
    pub const MAX: Seq = Seq(u64::MAX);

    /// Makes a seq from its number.
    pub const fn new(number: u64) -> Seq {
        Seq(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the seq of the message after this one.
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl PartialEq<u64> for Seq {
    fn eq(&self, number: &u64) -> bool {
        self.0 == *number
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_written_as_its_number() {
        let seq = Seq::new(7);
        assert_eq!((format!("{seq}"), format!("{seq:?}")), ("7".into(), "7".into()));
        assert_eq!(serde_json::to_string(&seq).ok().as_deref(), Some("7"));
        assert_eq!(serde_json::from_str::<Seq>("7").ok(), Some(seq));
    }

    #[test]
    fn numbers_begin_at_one_and_do_not_wrap() {
        assert_eq!(Seq::ZERO.next(), 1);
        assert_eq!(Seq::MAX.next(), Seq::MAX);
    }
}

//! Reading Redis' answers.

use fred::types::Value;

use crate::Error;

/// An answer of several parts, read from the front.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(super) fn of(value: Value) -> Self {
        Self(value.into_array().into_iter())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    pub(super) fn integer(&mut self) -> Result<i64, Error> {
        self.0.next().and_then(|value| value.as_i64()).ok_or_else(unexpected)
    }

    pub(super) fn text(&mut self) -> Result<String, Error> {
        self.optional_text().ok_or_else(unexpected)
    }

    /// Reads a part that may be missing.
    pub(super) fn optional_text(&mut self) -> Option<String> {
        self.0.next().filter(|value| !value.is_null()).and_then(Value::into_string)
    }

    /// Reads all remaining parts.
    pub(super) fn texts(self) -> Vec<String> {
        self.0.filter_map(Value::into_string).collect()
    }
}

/// The error for a value under one of Starling's keys that Starling did not write.
fn unexpected() -> Error {
    Error::Unavailable("Redis answered something unexpected".into())
}

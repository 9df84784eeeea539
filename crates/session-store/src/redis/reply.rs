//! Reads what Redis answered.

use fred::types::Value;

use crate::Error;

/// An answer with several parts, read from the front.
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

    /// A part that may be missing.
    pub(super) fn optional_text(&mut self) -> Option<String> {
        self.0.next().filter(|value| !value.is_null()).and_then(Value::into_string)
    }

    /// All that is left.
    pub(super) fn texts(self) -> Vec<String> {
        self.0.filter_map(Value::into_string).collect()
    }
}

/// Whatever stands under Starling's keys there was not written by it.
fn unexpected() -> Error {
    Error::Unavailable("Redis answered something unexpected".into())
}

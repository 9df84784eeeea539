//! JSON values that are passed on without being interpreted.

use std::sync::Arc;

/// A value as compact JSON text (no white space outside of strings, no U+0000 inside of them, bounded depth).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// Wraps text that is known to be compact JSON: from the log, or from [`super::Command`].
    pub fn from_compact(text: impl Into<Arc<str>>) -> Json {
        Json(text.into())
    }
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Returns the text, shared.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

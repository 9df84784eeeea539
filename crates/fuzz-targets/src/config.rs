//! The configuration file: it is read, or refused with a reason.

/// Reads a configuration file.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        starling::fuzzing::config(text);
    }
}

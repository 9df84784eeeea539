//! The error of a configuration that can't be used.

/// A bad configuration: the key, flag or variable at fault, and what is wrong with it. The operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(pub String);

use std::path::PathBuf;

/// Why a client can't verify servers as it is told to. The operator has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be read, or holds no certificate or a bad one.
    #[error("the file of authorities {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable replaces the system's authorities, and no certificate can be read where it leads.
    #[error("{variable} names no certificate that can be read{reason}")]
    Variable {
        /// The name of the variable.
        variable: &'static str,
        /// What went wrong with the first one, after a colon; empty if there is nothing at all.
        reason: String,
    },
    /// rustls refuses the configuration. A fault of this program.
    #[error("TLS can't be configured: {0}")]
    Configuration(String),
}

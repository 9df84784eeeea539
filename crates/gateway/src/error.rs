//! The reason why the gateway can't start.

use std::net::SocketAddr;

/// The reason why the gateway can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The public port can't be opened. The operator has to act.
    #[error("listen: can't listen on {address}: {source}")]
    Listen {
        /// The address that was configured.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificate or its key can't be used. The operator has to act.
    #[error("{0}")]
    Tls(String),
    /// A shard's thread can't be started.
    #[error("a shard's thread can't be started: {0}")]
    Thread(std::io::Error),
    /// A shard's runtime can't be created: most often, no file descriptors are left.
    #[error("a shard can't be started: {0}")]
    Runtime(std::io::Error),
}

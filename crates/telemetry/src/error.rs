//! Reasons why telemetry could not be installed.

use std::io;

use tracing_subscriber::util::TryInitError;

/// Reason why telemetry could not be installed. The operator can fix the first two; their messages start with the setting's key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is invalid, or would log nothing because a level is misspelt.
    #[error("log: {0}")]
    Filter(String),
    /// The endpoint is not a URL that traces can be exported to.
    #[error("otlp_endpoint: {problem}")]
    Endpoint {
        /// What is wrong with it, without the URL, which may contain a password.
        problem: String,
    },
    /// Error reports can't be sent as they are set up. The message does not contain the address, which holds a key.
    #[error("sentry_dsn: {0}")]
    ErrorReports(String),
    /// The exporter of traces could not be set up.
    #[error("can't set up the export of traces: {0}")]
    Exporter(String),
    /// The thread that writes the log could not be started.
    #[error("can't start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
    /// The process already has a subscriber for logs.
    #[error("logs are installed already: {0}")]
    Installed(#[from] TryInitError),
}

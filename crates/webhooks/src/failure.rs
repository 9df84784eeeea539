use crate::RefusedAddress;

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The host's name can't be looked up.
    #[error("the host is not found: {0}")]
    Resolve(String),
    /// The address is one that requests must not go to.
    #[error("{0}")]
    Refused(RefusedAddress),
    /// The URL has no TLS, and the address is not in a network that the operator allows.
    #[error("http:// is only allowed in networks that the operator allows; use https://")]
    NotEncrypted,
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The backend's certificate is not valid for its host, or there is another fault of TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended early, or the answer is not HTTP.
    #[error("no valid answer: {0}")]
    Answer(String),
    /// The body of the answer is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

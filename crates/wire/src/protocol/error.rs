//! The error codes that clients see. They are stable. `docs/errors.md` says what to do about each.

use serde::Serialize;

/// The reason for which a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense.
    BadRequest,
    /// There is no valid token, or the connection has no session yet.
    Unauthorized,
    /// The token does not allow the request.
    Forbidden,
    /// The thing does not exist, or the user may not see it.
    NotFound,
    /// The thing exists already, or its state does not allow the request.
    Conflict,
    /// A size or number is over its limit.
    TooLarge,
    /// The client sent too many requests. The error has `retry_after_ms`.
    RateLimited,
    /// Nothing was accepted, or it was not confirmed. A retry may succeed. The error has `retry_after_ms`.
    Unavailable,
    /// A fault of the node.
    Internal,
}

impl ErrorCode {
    /// Returns the code as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Conflict => "conflict",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Internal => "internal",
        }
    }
}

/// The `error` object, over WebSocket and HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// The error code.
    pub code: ErrorCode,
    /// A message for people.
    pub message: String,
    /// Time to retry, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

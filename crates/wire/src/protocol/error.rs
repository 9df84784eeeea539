//! Error codes that clients see. They are stable; `docs/errors.md` says for each what to do.

use serde::Serialize;

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The client asked for something that makes no sense.
    BadRequest,
    /// No valid token, or not connected yet.
    Unauthorized,
    /// The token does not allow it.
    Forbidden,
    /// There is no such thing, or not for this user.
    NotFound,
    /// It is there already, or is not in a state for this.
    Conflict,
    /// More than the limit.
    TooLarge,
    /// Too often; carries `retry_after_ms`.
    RateLimited,
    /// Nothing was accepted; carries `retry_after_ms`.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// The word on the wire.
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

/// The `error` object, over WebSocket and HTTP alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// Which.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

//! Why a command failed, as its caller is told.

use starling_wire::protocol::{ErrorBody, ErrorCode};

/// How long a caller should wait before it tries something unavailable again, milliseconds: about a failover's first chance.
const RETRY_AFTER_MS: u64 = 1_000;

/// Why a command failed. The code is stable; the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct CommandError {
    /// One of the protocol's codes.
    pub code: ErrorCode,
    /// For the developer of the client.
    pub message: String,
    /// When to try again; set with `rate_limited` and `unavailable`.
    pub retry_after_ms: Option<u64>,
}

impl CommandError {
    /// An error that won't go away by itself.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> CommandError {
        CommandError { code, message: message.into(), retry_after_ms: None }
    }
    /// The client asked for something that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::BadRequest, message)
    }
    /// No valid token.
    pub fn unauthorized(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Unauthorized, message)
    }
    /// The token does not allow it.
    pub fn forbidden(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Forbidden, message)
    }
    /// It is there already, or is not in a state for this.
    pub fn conflict(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Conflict, message)
    }
    /// A fault of the node's or of the database's, which whoever found it has logged.
    pub fn internal() -> CommandError {
        CommandError::new(ErrorCode::Internal, "an internal fault; it has been logged")
    }
    /// More than a limit.
    pub fn too_large(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::TooLarge, message)
    }
    /// The one answer for a conversation that is not there and one that is not for this user.
    pub fn no_such_conversation() -> CommandError {
        CommandError::new(ErrorCode::NotFound, "no such conversation, or you are not a member of it")
    }
    /// Too often.
    pub fn rate_limited(message: impl Into<String>, retry_after_ms: u64) -> CommandError {
        CommandError {
            code: ErrorCode::RateLimited,
            message: message.into(),
            retry_after_ms: Some(retry_after_ms.max(1)),
        }
    }
    /// Nothing was accepted; try again.
    pub fn unavailable(message: impl Into<String>) -> CommandError {
        CommandError {
            code: ErrorCode::Unavailable,
            message: message.into(),
            retry_after_ms: Some(RETRY_AFTER_MS),
        }
    }
    /// The same, with another time to try again after.
    #[must_use]
    pub fn retry_after(mut self, after: std::time::Duration) -> CommandError {
        self.retry_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
        self
    }
    /// The object that goes over the wire.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code, message: self.message.clone(), retry_after_ms: self.retry_after_ms }
    }
}

impl From<starling_conversation_store::Error> for CommandError {
    fn from(error: starling_conversation_store::Error) -> CommandError {
        if error.is_transient() {
            tracing::debug!(%error, "the conversation store did not respond");
            CommandError::unavailable("the database is not available; nothing was accepted")
        } else {
            tracing::error!(%error, "the conversation store refused");
            CommandError::internal()
        }
    }
}

impl From<starling_fanout::Error> for CommandError {
    fn from(error: starling_fanout::Error) -> CommandError {
        tracing::debug!(%error, "the fan-out did not respond");
        CommandError::unavailable("topics are not available for the moment; nothing was accepted")
    }
}

impl From<starling_session_store::Error> for CommandError {
    fn from(error: starling_session_store::Error) -> CommandError {
        if let starling_session_store::Error::Cursor = error {
            return CommandError::bad_request("`cursor` must be what `next` of the page before said");
        }
        tracing::debug!(%error, "the session store did not respond");
        CommandError::unavailable("sessions are not available for the moment; nothing was accepted")
    }
}

impl From<starling_auth::TokenError> for CommandError {
    fn from(error: starling_auth::TokenError) -> CommandError {
        if error.is_temporary() {
            return CommandError::unavailable(error.to_string());
        }
        CommandError::unauthorized(error.to_string())
    }
}

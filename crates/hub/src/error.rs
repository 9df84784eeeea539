//! The reason for which a command failed, as its caller is told.

use starling_wire::protocol::{ErrorBody, ErrorCode};

/// Time to retry after `unavailable`, milliseconds. A failover may be over by then.
const RETRY_AFTER_MS: u64 = 1_000;

/// The reason for which a command failed. The code is stable; the message is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct CommandError {
    /// The protocol's error code.
    pub code: ErrorCode,
    /// A message for the developer of the client.
    pub message: String,
    /// Time to retry. Set with `rate_limited` and `unavailable`.
    pub retry_after_ms: Option<u64>,
}

impl CommandError {
    /// Makes an error that a retry does not solve.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> CommandError {
        CommandError { code, message: message.into(), retry_after_ms: None }
    }
    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::BadRequest, message)
    }
    /// There is no valid token.
    pub fn unauthorized(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Unauthorized, message)
    }
    /// The token does not allow the request.
    pub fn forbidden(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Forbidden, message)
    }
    /// The thing exists already, or its state does not allow the request.
    pub fn conflict(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::Conflict, message)
    }
    /// A fault of the node or the database. It has been logged where it was found.
    pub fn internal() -> CommandError {
        CommandError::new(ErrorCode::Internal, "an internal fault; it has been logged")
    }
    /// A size or number is over its limit.
    pub fn too_large(message: impl Into<String>) -> CommandError {
        CommandError::new(ErrorCode::TooLarge, message)
    }
    /// The conversation does not exist, or the user may not see it. Both get the same error, so that it does not tell which names exist.
    pub fn no_such_conversation() -> CommandError {
        CommandError::new(ErrorCode::NotFound, "no such conversation, or you are not a member of it")
    }
    /// The client sent too many requests.
    pub fn rate_limited(message: impl Into<String>, retry_after_ms: u64) -> CommandError {
        CommandError {
            code: ErrorCode::RateLimited,
            message: message.into(),
            retry_after_ms: Some(retry_after_ms.max(1)),
        }
    }
    /// Nothing was accepted, or it was not confirmed. A retry may succeed.
    pub fn unavailable(message: impl Into<String>) -> CommandError {
        CommandError {
            code: ErrorCode::Unavailable,
            message: message.into(),
            retry_after_ms: Some(RETRY_AFTER_MS),
        }
    }
    /// Returns the same error with another time to retry.
    #[must_use]
    pub fn retry_after(mut self, after: std::time::Duration) -> CommandError {
        self.retry_after_ms = Some(crate::clock::millis(after).max(1));
        self
    }
    /// Returns the error as it is sent to clients.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code, message: self.message.clone(), retry_after_ms: self.retry_after_ms }
    }
}

impl From<starling_conversation_store::Error> for CommandError {
    fn from(error: starling_conversation_store::Error) -> CommandError {
        if error.is_transient() {
            tracing::debug!(%error, "the conversation store did not respond");
            CommandError::unavailable("the database is not available, or did not confirm this; try again")
        } else {
            tracing::error!(%error, "the conversation store refused");
            CommandError::internal()
        }
    }
}

impl From<starling_fanout::Error> for CommandError {
    fn from(error: starling_fanout::Error) -> CommandError {
        tracing::debug!(%error, "the fan-out did not respond");
        CommandError::unavailable(
            "topics are not available for the moment, or did not confirm this; try again",
        )
    }
}

impl From<starling_session_store::Error> for CommandError {
    fn from(error: starling_session_store::Error) -> CommandError {
        if let starling_session_store::Error::Cursor = error {
            return CommandError::bad_request("`cursor` must be what `next` of the page before said");
        }
        tracing::debug!(%error, "the session store did not respond");
        CommandError::unavailable(
            "sessions are not available for the moment, or did not confirm this; try again",
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_confirmed_is_not_said_to_have_been_refused() {
        let why = || "no answer in time".to_owned();
        let errors: [CommandError; 3] = [
            starling_conversation_store::Error::Unavailable(why()).into(),
            starling_fanout::Error::Unavailable(why()).into(),
            starling_session_store::Error::Unavailable(why()).into(),
        ];
        for error in errors {
            assert_eq!(error.code, ErrorCode::Unavailable);
            assert!(error.message.contains("or did not confirm this"), "{error}");
        }
    }
}

//! Failures, as an HTTP client sees them: a status and the protocol's error object.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;
use starling_hub::CommandError;
use starling_wire::protocol::{BadRequest, ErrorBody, ErrorCode};
use utoipa::{IntoResponses, ToSchema};

/// Failed request.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: CommandError,
}

impl ApiError {
    /// Creates an error whose status is not the usual one of its code.
    pub(crate) fn with_status(status: StatusCode, error: CommandError) -> ApiError {
        ApiError { status, error }
    }

    /// Creates an error for a request that makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        CommandError::bad_request(message).into()
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> ApiError {
        ApiError { status: status_of(error.code), error }
    }
}

impl From<BadRequest> for ApiError {
    fn from(bad: BadRequest) -> ApiError {
        CommandError::new(bad.code, bad.message).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorResponse { error: self.error.body() };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(ms) = self.error.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Responds to unknown paths.
pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    CommandError::new(ErrorCode::NotFound, format!("there is nothing at {}", uri.path())).into()
}

/// Responds to methods that a path does not support; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let error = CommandError::bad_request(format!("{} has no method {method}; see Allow", uri.path()));
    ApiError::with_status(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Response of a failed request.
#[derive(Serialize, ToSchema)]
#[schema(as = Error, example = json!({"error": {"code": "bad_request", "message": "`key` is missing"}}))]
pub(super) struct ErrorResponse {
    #[schema(value_type = ErrorObject)]
    error: ErrorBody,
}

/// The `error` object, the same over WebSocket and HTTP.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `ErrorBody` of the wire crate, which knows no OpenAPI")]
pub(super) struct ErrorObject {
    /// Stable code. The table of errors says what to do about each.
    code: ErrorCodeName,
    /// Message for the developer of the client; may change.
    message: String,
    /// Time to wait before trying again, in milliseconds; only with `rate_limited` and `unavailable`.
    #[schema(nullable = false)]
    retry_after_ms: Option<u64>,
}

/// Error codes.
#[derive(ToSchema)]
#[schema(as = ErrorCode, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `ErrorCode` of the wire crate, which knows no OpenAPI")]
pub(super) enum ErrorCodeName {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    RateLimited,
    Unavailable,
    Internal,
}

/// Errors that every call can return.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers that `ApiError` gives")]
pub(super) enum Failures {
    /// The request makes no sense; the message names the field.
    #[response(status = 400)]
    BadRequest(ErrorResponse),
    /// The token is missing or not valid.
    #[response(status = 401, headers(("WWW-Authenticate" = String, description = "`Bearer`")))]
    Unauthorized(ErrorResponse),
    /// Too often; nothing was done.
    #[response(status = 429, headers(("Retry-After" = u64, description = "Seconds to wait before trying again")))]
    RateLimited(ErrorResponse),
    /// A fault in Starling, which has been logged.
    #[response(status = 500)]
    Internal(ErrorResponse),
    /// Nothing was accepted, or the database did not confirm it; try again with the same key.
    #[response(status = 503, headers(("Retry-After" = u64, description = "Seconds to wait before trying again")))]
    Unavailable(ErrorResponse),
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(error: impl Into<ApiError>) -> (u16, http::HeaderMap, serde_json::Value) {
        let response = error.into().into_response();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("body");
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn every_code_has_its_status() {
        for (code, status) in [
            (ErrorCode::BadRequest, 400),
            (ErrorCode::Unauthorized, 401),
            (ErrorCode::Forbidden, 403),
            (ErrorCode::NotFound, 404),
            (ErrorCode::Conflict, 409),
            (ErrorCode::TooLarge, 413),
            (ErrorCode::RateLimited, 429),
            (ErrorCode::Unavailable, 503),
            (ErrorCode::Internal, 500),
        ] {
            let (shown_status, headers, body) = shown(CommandError::new(code, "why")).await;
            assert_eq!(shown_status, status);
            assert_eq!(body, serde_json::json!({"error": {"code": code.as_str(), "message": "why"}}));
            assert_eq!(headers.contains_key(WWW_AUTHENTICATE), status == 401);
        }
    }

    #[tokio::test]
    async fn times_to_wait_are_rounded_up_to_seconds() {
        for (ms, seconds) in [(1, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")] {
            let (status, headers, body) = shown(CommandError::rate_limited("slower", ms)).await;
            assert_eq!((status, headers[RETRY_AFTER].to_str().expect("text")), (429, seconds));
            assert_eq!(body["error"]["retry_after_ms"], ms);
        }
        let (status, headers, _) = shown(CommandError::unavailable("away")).await;
        assert_eq!(status, 503);
        assert!(headers.contains_key(RETRY_AFTER));
    }

    #[tokio::test]
    async fn what_the_decoders_refuse_keeps_its_code() {
        let bad = BadRequest { code: ErrorCode::TooLarge, message: "`content` has …".to_owned() };
        assert_eq!(shown(bad).await.0, 413);
    }
}

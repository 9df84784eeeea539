//! Names in paths.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use starling_wire::protocol::{NAME_LENGTH_MAX, is_name};
use utoipa::ToSchema;

use super::error::ApiError;

/// A name of a conversation, topic, user, node or session: 1 to 100 characters out of `A-Z a-z 0-9 _ . : @ -`, but not `.` or `..`.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = r"^(?!\.{1,2}$)[A-Za-z0-9_.:@-]+$", example = "picnic")]
#[expect(dead_code, reason = "describes what `is_name` takes")]
pub(super) struct Name(String);

/// The names in a request's path, in their order, each checked.
pub(super) struct Names<const N: usize>(pub [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Names<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Names<N>, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::bad_request("the path is not UTF-8"))?;
        let names = params.iter().map(|(field, name)| checked(field, name)).collect::<Result<Vec<_>, _>>()?;
        names.try_into().map(Names).map_err(|_| ApiError::bad_request("the path lacks a name"))
    }
}

fn checked(field: &str, name: &str) -> Result<String, ApiError> {
    if is_name(name) {
        return Ok(name.to_owned());
    }
    Err(ApiError::bad_request(format!(
        "`{field}` in the path must be a name: 1 to {NAME_LENGTH_MAX} characters out of A-Z a-z 0-9 _ . : @ -, but not . or .."
    )))
}

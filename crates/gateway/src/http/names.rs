//! Names in paths.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use starling_model::{NAME_RULE, is_name};
use utoipa::ToSchema;

use super::error::ApiError;

/// Name of a conversation, topic, user, node, session, queue, kind or worker: 1 to 100 characters from `A-Z a-z 0-9 _ . : @ -`, but not `.` or `..`.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = r"^(?!\.{1,2}$)[A-Za-z0-9_.:@-]+$", example = "picnic")]
#[expect(dead_code, reason = "describes what `is_name` takes")]
pub(super) struct Name(String);

/// Checked names in a request's path, in order.
pub(super) struct Names<T>(pub T);

impl<S: Send + Sync, T: FromPath> FromRequestParts<S> for Names<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Names<T>, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::bad_request("the path is not UTF-8"))?;
        let names = params.iter().map(|(field, name)| checked(field, name)).collect::<Result<Vec<_>, _>>()?;
        T::from_path(&names).map(Names).ok_or_else(|| ApiError::bad_request("the path lacks a name"))
    }
}

/// What a path's names are.
pub(super) trait FromPath: Sized {
    /// Takes the names of a path; `None` where there are more or fewer.
    fn from_path(names: &[&str]) -> Option<Self>;
}

impl<A: for<'a> From<&'a str>> FromPath for (A,) {
    fn from_path(names: &[&str]) -> Option<(A,)> {
        let &[a] = names else { return None };
        Some((a.into(),))
    }
}

impl<A: for<'a> From<&'a str>, B: for<'a> From<&'a str>> FromPath for (A, B) {
    fn from_path(names: &[&str]) -> Option<(A, B)> {
        let &[a, b] = names else { return None };
        Some((a.into(), b.into()))
    }
}

fn checked<'a>(field: &str, name: &'a str) -> Result<&'a str, ApiError> {
    if is_name(name) {
        return Ok(name);
    }
    Err(ApiError::bad_request(format!("`{field}` in the path must be a name: {NAME_RULE}")))
}

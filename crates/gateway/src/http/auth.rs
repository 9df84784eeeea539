//! Who calls.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use starling_auth::Identity;
use starling_hub::{CommandError, Hub};

use super::error::ApiError;

/// Identity from the request's token.
pub(super) struct Caller(pub Identity);

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Arc<Hub>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Caller, ApiError> {
        if let Some(identity) = parts.extensions.remove::<Identity>() {
            // Looked at already, to count the request on its user.
            return Ok(Caller(identity));
        }
        let no_token = || CommandError::unauthorized("this call needs a token: `Authorization: Bearer …`");
        let token = bearer(&parts.headers).ok_or_else(no_token)?;
        Ok(Caller(authenticate(&Arc::<Hub>::from_ref(state), token).await?))
    }
}

/// Returns the token in a request's headers.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Verifies a token. Only waits if a key must be fetched.
pub(crate) async fn authenticate(hub: &Hub, token: &str) -> Result<Identity, CommandError> {
    let checked = match hub.authenticate_now(token) {
        Some(checked) => checked,
        None => hub.authenticate(token).await,
    };
    Ok(checked?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("header"));
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn the_token_stands_after_the_scheme_in_any_case() {
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bEARER  abc ").as_deref(), Some("abc"));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("Bearer"), None);
        assert_eq!(read("abc"), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}

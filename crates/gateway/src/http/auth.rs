//! Who calls.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use starling_auth::Identity;
use starling_hub::{CommandError, Hub};

use super::error::ApiError;

/// Who the request's token says its bearer is.
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
        let token = bearer(&parts.headers)?;
        let hub = Arc::<Hub>::from_ref(state);
        let checked = match hub.authenticate_now(token) {
            Some(checked) => checked,
            None => hub.authenticate(token).await,
        };
        match checked {
            Ok(identity) => Ok(Caller(identity)),
            Err(error) if error.is_temporary() => Err(CommandError::unavailable(error.to_string()).into()),
            Err(error) => Err(CommandError::unauthorized(error.to_string()).into()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, CommandError> {
    let refused = || CommandError::unauthorized("this call needs a token: `Authorization: Bearer …`");
    let given = headers.get(AUTHORIZATION).ok_or_else(refused)?;
    let (scheme, token) = given.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(refused)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("header"));
        bearer(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn the_token_stands_after_the_scheme_in_any_case() {
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bEARER  abc ").as_deref(), Some("abc"));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("Bearer"), None);
        assert_eq!(read("abc"), None);
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}

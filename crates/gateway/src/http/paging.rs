//! Lists come in pages: `?cursor&limit`, and `next` in the answer.

use axum::extract::{FromRequestParts, Query};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use starling_conversation_store::ListCursor;
use starling_model::ConversationId;
use utoipa::IntoParams;

use super::error::ApiError;

/// Entries in a page if the client does not say.
pub(super) const PAGE_ENTRIES: u32 = 50;
/// Most entries in a page.
pub(super) const PAGE_ENTRIES_MAX: u32 = 200;

/// Query of a request.
pub(super) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// Page of a list.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// `next` of the previous page; absent or empty for the first page.
    #[param(nullable = false)]
    pub cursor: Option<String>,
    /// Most entries in the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
}

impl PageParams {
    /// Returns the requested number of entries.
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        limit(self.limit)
    }

    /// Returns the end of the previous page, as written by [`encode`].
    pub(super) fn position(&self) -> Result<Option<String>, ApiError> {
        let Some(cursor) = self.cursor.as_deref().filter(|cursor| !cursor.is_empty()) else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad_cursor())?;
        String::from_utf8(bytes).map(Some).map_err(|_| bad_cursor())
    }
}

/// Checks a `limit`.
pub(super) fn limit(given: Option<u32>) -> Result<u32, ApiError> {
    let limit = given.unwrap_or(PAGE_ENTRIES);
    if (1..=PAGE_ENTRIES_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request(format!("`limit` must be an integer from 1 to {PAGE_ENTRIES_MAX}")))
}

/// Returns the error for a cursor that no response contained.
pub(super) fn bad_cursor() -> ApiError {
    ApiError::bad_request("`cursor` must be what `next` of the page before said")
}

/// Encodes a cursor, which clients return unchanged.
pub(super) fn encode(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

/// Encodes the cursor of a page of conversations.
pub(super) fn encode_conversations(cursor: ListCursor) -> String {
    encode(&format!("{}.{}", cursor.active_at_ms, cursor.id))
}

/// Decodes a position from [`encode_conversations`], after [`PageParams::position`].
pub(super) fn decode_conversations(position: &str) -> Result<ListCursor, ApiError> {
    let read = || {
        let (active_at_ms, id) = position.split_once('.')?;
        let id = ConversationId::new(id.parse().ok()?);
        Some(ListCursor { active_at_ms: active_at_ms.parse().ok()?, id })
    };
    read().ok_or_else(bad_cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: &str) -> PageParams {
        PageParams { cursor: Some(cursor.to_owned()), limit: None }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor = ListCursor { active_at_ms: 1_790_000_000_123, id: ConversationId::new(i64::MAX) };
        let text = encode_conversations(cursor);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
        let position = page(&text).position().expect("ours").expect("given");
        assert_eq!(decode_conversations(&position).expect("ours"), cursor);
    }

    #[test]
    fn no_cursor_is_the_beginning() {
        assert_eq!(PageParams::default().position().expect("none"), None);
        assert_eq!(page("").position().expect("empty"), None);
    }

    #[test]
    fn cursors_of_others_are_refused() {
        for text in ["%%%", "a", "äöü", "_w"] {
            assert!(page(text).position().is_err(), "{text}");
        }
        for text in ["", "1", "1.", ".1", "1.2.3", "1.x", "99999999999999999999.1"] {
            assert!(decode_conversations(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_in_range() {
        assert_eq!(limit(None).expect("default"), 50);
        assert_eq!((limit(Some(1)).expect("least"), limit(Some(200)).expect("most")), (1, 200));
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
    }
}

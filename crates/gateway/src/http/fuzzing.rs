//! Access for the fuzz targets to the parsers of queries.

use axum::extract::Query;
use http::Uri;

use super::messages::LogParams;
use super::operate::SessionParams;
use super::paging::{self, PAGE_ENTRIES_MAX, PageParams};

/// Reads a query as each of the lists does.
///
/// # Panics
/// If a limit that is out of range is accepted, or a cursor is not written as it was read.
pub fn query(uri: &Uri) {
    let _ = Query::<LogParams>::try_from_uri(uri);
    let _ = Query::<SessionParams>::try_from_uri(uri);
    let Ok(Query(page)) = Query::<PageParams>::try_from_uri(uri) else { return };
    if let Ok(limit) = page.limit() {
        assert!((1..=PAGE_ENTRIES_MAX).contains(&limit));
    }
    let Ok(Some(position)) = page.position() else { return };
    if let Ok(cursor) = paging::decode_conversations(&position) {
        let again = PageParams { cursor: Some(paging::encode_conversations(cursor)), limit: None };
        let position = again.position().ok().flatten().unwrap_or_default();
        assert!(paging::decode_conversations(&position).is_ok_and(|again| again == cursor));
    }
}

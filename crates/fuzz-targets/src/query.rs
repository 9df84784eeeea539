//! Query of a list: `cursor`, `limit`, `before`, `after`, `user`.

use http::Uri;

/// Reads the query of a list, and a cursor.
pub fn query(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        starling_session_store::redis::fuzzing::cursor(text);
    }
    let uri = [b"/?".as_slice(), bytes].concat();
    if let Ok(uri) = Uri::try_from(uri) {
        starling_gateway::fuzzing::query(&uri);
    }
}

//! Ways for the fuzz targets to parsers that nobody else calls from outside. No part of what this crate promises.

use http::HeaderMap;

use crate::http::auth;
pub use crate::http::fuzzing::query;
use crate::{Origins, upgrade};

/// The token in a request's headers.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    auth::bearer(headers)
}

/// Whether a page of the origin in a request's headers may connect.
pub fn allows_origin(origins: &Origins, headers: &HeaderMap) -> bool {
    upgrade::check_origin(origins, headers).is_ok()
}

//! Access for the fuzz targets to parsers that nothing else calls from outside. Not part of this crate's interface.

use http::{HeaderMap, Uri, Version};

use crate::http::auth;
pub use crate::http::fuzzing::query;
use crate::pages::{Pages, Target};
use crate::{Origins, host};

/// Returns the token in a request's headers.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    auth::bearer(headers)
}

/// Whether a page of the origin in a request's headers may connect.
pub fn allows_origin(origins: &Origins, headers: &HeaderMap) -> bool {
    let uri = Uri::from_static("/");
    let Ok(authority) = host::requested(Version::HTTP_11, &uri, headers) else { return false };
    Pages::new(origins.clone()).page(headers, Target { authority, secure: false }).may_connect()
}

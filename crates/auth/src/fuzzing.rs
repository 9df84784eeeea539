//! Ways for the fuzz targets to parsers that nobody else calls from outside. No part of what this crate promises.

use crate::{Algorithm, Ticket, jwks, ticket};

/// How many usable keys the answer of a JWKS endpoint holds; `None` where it is no key set.
pub fn keys_in(body: &[u8], algorithm: Algorithm) -> Option<usize> {
    jwks::read_keys(body, algorithm).ok().map(|keys| keys.len())
}

/// What stands in a ticket before its tag, as if the tag had been good.
pub fn ticket_body(body: &[u8]) -> Option<Ticket> {
    ticket::read(body)
}

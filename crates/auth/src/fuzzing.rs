//! Access for the fuzz targets to private parsers. Not part of the public interface.

use crate::{Algorithm, Ticket, jwks, ticket};

/// Returns the number of usable keys in a response of a JWKS endpoint; `None` if it is not a key set.
pub fn keys_in(body: &[u8], algorithm: Algorithm) -> Option<usize> {
    jwks::read_keys(body, algorithm).ok().map(|keys| keys.len())
}

/// Parses a ticket without its tag, as if the tag had been valid.
pub fn ticket_body(body: &[u8]) -> Option<Ticket> {
    ticket::read(body)
}

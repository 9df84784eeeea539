//! Who may do what: JWTs (HS256 with a shared secret; RS256, ES256, EdDSA with a key file or a JWKS URL), their scopes, and
//! signed resume tickets.
//!
//! The algorithm is pinned by the configuration and never taken from the token.

mod claims;
mod scope;
mod ticket;
mod verifier;

pub use claims::Identity;
pub use scope::Scopes;
pub use ticket::{Ticket, TicketError, TicketKey};
pub use verifier::{Algorithm, KeySource, SetupError, TokenError, Verifier, sign_hs256};

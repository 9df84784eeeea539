//! Authentication and authorization: JWTs (HS256 with a shared secret; RS256, ES256, EdDSA with a key file or a JWKS URL), their
//! scopes, and signed resume tickets.
//!
//! The algorithm is pinned by the configuration and never taken from the token. The caller passes in the time,
//! as Unix milliseconds.

mod algorithm;
mod cache;
mod claims;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod jwks;
mod key;
mod name;
mod options;
mod recent;
mod scope;
mod sign;
mod ticket;
mod token;
mod verifier;

pub use algorithm::Algorithm;
pub use claims::{Identity, LEEWAY_MS};
pub use error::{SetupError, TokenError};
pub use key::SECRET_BYTES_MIN;
pub use name::user_name;
pub use options::{ClaimNames, VerifierOptions};
pub use scope::{SCOPES_MAX, Scopes};
pub use sign::{sign_claims, sign_hs256};
pub use ticket::{Ticket, TicketError, TicketKey};
pub use token::TOKEN_BYTES_MAX;
pub use verifier::{KeySource, Verifier};

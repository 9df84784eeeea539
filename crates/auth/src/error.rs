//! What can be wrong: with the configuration of keys, and with a token.

use std::path::PathBuf;

use crate::Algorithm;

/// Why a verifier or a ticket key could not be set up. The operator is at fault; each message names the configuration key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// `jwt_algorithm` is none that Starling knows.
    #[error("jwt_algorithm: {name:?} is not one of HS256, RS256, ES256, EdDSA")]
    UnknownAlgorithm {
        /// What was given.
        name: String,
    },
    /// The algorithm and the kind of key source do not go together.
    #[error("jwt_algorithm is {algorithm}, which does not go with {key}: {advice}")]
    AlgorithmMismatch {
        /// The algorithm.
        algorithm: Algorithm,
        /// The configuration key that names the source.
        key: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A secret is too short to be safe against guessing.
    #[error("{key} has {bytes} bytes; it needs 32 or more, for example from `openssl rand -base64 48`")]
    ShortSecret {
        /// The configuration key.
        key: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// The key file can't be read.
    #[error("jwt_public_key_file: can't read {}: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds something else than a public key for the algorithm.
    #[error("jwt_public_key_file: {} {problem}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The JWKS URL is none that keys may be fetched from.
    #[error("jwt_jwks_url: {problem}")]
    JwksUrl {
        /// What is wrong with it.
        problem: String,
    },
}

/// Why a token was refused. Messages never repeat any of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no JWT in compact form.
    #[error("the token is not a JWT")]
    Malformed,
    /// It is longer than [`TOKEN_BYTES_MAX`](crate::TOKEN_BYTES_MAX).
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Its header names another algorithm than the configured one, `none` included.
    #[error("the token is signed with another algorithm than this server accepts")]
    WrongAlgorithm,
    /// It names a key that is not in the key set, or none where there are more than a few.
    #[error("the token is signed with a key that this server does not know")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// It has no `exp`.
    #[error("the token has no exp claim")]
    NoExpiry,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies ahead.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It lacks the claim that names the user.
    #[error("the token lacks the claim that names the user (sub, or what jwt_user_claim says)")]
    NoSubject,
    /// The claim that names the user is empty, or holds control characters.
    #[error("the claim of the token that names the user is empty or holds control characters")]
    BadSubject,
    /// The claim that names the tenant is no valid name.
    #[error("the claim of the token that names the tenant is not a valid name")]
    BadTenant,
    /// A claim has the wrong type, or stands there twice.
    #[error("the token's claims are not of the types that they should have")]
    BadClaims,
    /// `iss` is not what the configuration asks for.
    #[error("the token is from another issuer than this server accepts")]
    WrongIssuer,
    /// `aud` is not what the configuration asks for.
    #[error("the token is for another audience than this server")]
    WrongAudience,
    /// The key set has not been fetched yet: nothing is wrong with the token, and it may be presented again.
    #[error("the keys to verify tokens with are not available at the moment")]
    KeysUnavailable,
}

impl TokenError {
    /// Whether the same token may be good a moment later, through no deed of the client: answer `unavailable`, not
    /// `unauthorized`.
    pub fn is_temporary(self) -> bool {
        self == TokenError::KeysUnavailable
    }
}

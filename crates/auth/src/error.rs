//! Errors in the configuration of keys, and reasons to refuse a token.

use std::path::PathBuf;

/// Reason why a verifier or a ticket key could not be set up. The operator is at fault; each message names the setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// `jwt_algorithm` is not a supported algorithm.
    #[error("jwt_algorithm: {name:?} is not one of HS256, RS256, ES256, EdDSA")]
    UnknownAlgorithm {
        /// Configured name.
        name: String,
    },
    /// The algorithm does not match the kind of key source.
    #[error("jwt_algorithm is {algorithm}, which does not match {key}: {advice}")]
    AlgorithmMismatch {
        /// Name of the configured algorithm.
        algorithm: &'static str,
        /// Setting that names the key source.
        key: &'static str,
        /// Advice for the operator.
        advice: &'static str,
    },
    /// The secret is so short that it could be guessed.
    #[error("{key} has {bytes} bytes; it needs 32 or more, for example from `openssl rand -base64 48`")]
    ShortSecret {
        /// Setting that contains the secret.
        key: &'static str,
        /// Length of the secret in bytes.
        bytes: usize,
    },
    /// The key file cannot be read.
    #[error("jwt_public_key_file: can't read {}: {source}", path.display())]
    KeyFile {
        /// Path of the file.
        path: PathBuf,
        /// Error from reading it.
        source: std::io::Error,
    },
    /// The key file does not contain a public key for the algorithm.
    #[error("jwt_public_key_file: {} {problem}", path.display())]
    BadKey {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Keys may not be fetched from the JWKS URL.
    #[error("jwt_jwks_url: {problem}")]
    JwksUrl {
        /// What is wrong with it.
        problem: String,
    },
}

/// Reason to refuse a token. Messages never repeat any part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is not a JWT in compact form.
    #[error("the token is not a JWT")]
    Malformed,
    /// The token is longer than [`TOKEN_BYTES_MAX`](crate::TOKEN_BYTES_MAX).
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// The header names an algorithm other than the configured one (including `none`).
    #[error("the token is signed with another algorithm than this server accepts")]
    WrongAlgorithm,
    /// The token names a key that is not in the key set, or names no key although the set has more than a few.
    #[error("the token is signed with a key that this server does not know")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// The token has no `exp`.
    #[error("the token has no exp claim")]
    NoExpiry,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The user claim is missing.
    #[error("the token has no user claim (sub, or the claim that jwt_user_claim names)")]
    NoSubject,
    /// The user claim is empty or contains control characters.
    #[error("the token's user claim is empty or contains control characters")]
    BadSubject,
    /// The tenant claim is not a valid name.
    #[error("the token's tenant claim is not a valid name")]
    BadTenant,
    /// A claim has the wrong type or appears twice.
    #[error("a claim of the token has the wrong type or appears twice")]
    BadClaims,
    /// `iss` does not match the configuration.
    #[error("the token is from another issuer than this server accepts")]
    WrongIssuer,
    /// `aud` does not match the configuration.
    #[error("the token is for another audience than this server")]
    WrongAudience,
    /// The key set has not been fetched yet. The token may be valid and can be presented again.
    #[error("the keys for verifying tokens are not available at the moment")]
    KeysUnavailable,
}

impl TokenError {
    /// Whether the same token may be accepted a moment later without any action by the client. Then the reply is `unavailable`, not
    /// `unauthorized`.
    pub fn is_temporary(self) -> bool {
        self == TokenError::KeysUnavailable
    }
}

//! Verification of tokens.

use std::path::PathBuf;

use crate::cache::{TokenHash, VerifiedTokens};
use crate::claims::Claims;
use crate::jwks::{Jwks, KeySet, Lookup};
use crate::key::VerifyingKey;
use crate::recent::Recent;
use crate::token::Parts;
use crate::{Algorithm, Identity, SetupError, TOKEN_BYTES_MAX, TokenError, VerifierOptions};

/// Source of the key.
#[derive(Clone)]
pub enum KeySource {
    /// Shared secret for HS256 (`jwt_secret`).
    Secret(Vec<u8>),
    /// File with a public key in PEM form, read once (`jwt_public_key_file`).
    PublicKeyFile(PathBuf),
    /// Key set (RFC 7517), kept up to date (`jwt_jwks_url`).
    Jwks {
        /// HTTPS URL. Plain HTTP is only allowed to this machine.
        url: String,
    },
}

/// Verifier of tokens with one algorithm and one source of keys. Created once and shared by all threads.
pub struct Verifier {
    algorithm: Algorithm,
    options: VerifierOptions,
    keys: Keys,
    verified: VerifiedTokens,
    recent: Recent,
}

enum Keys {
    One(VerifyingKey),
    Set(Jwks),
}

/// Result of verifying without waiting.
enum Progress<'a> {
    Done(Result<Identity, TokenError>),
    /// The key must be fetched first.
    Fetch(Parts<'a>, TokenHash),
}

impl Verifier {
    /// Reads the key. A key set is fetched in the background, on the current Tokio runtime, without waiting for it.
    ///
    /// # Errors
    /// The operator is at fault; the message names the setting.
    pub fn new(
        algorithm: Algorithm,
        source: KeySource,
        options: VerifierOptions,
    ) -> Result<Verifier, SetupError> {
        check_match(algorithm, &source)?;
        let keys = match source {
            KeySource::Secret(secret) => Keys::One(VerifyingKey::from_secret(&secret, "jwt_secret")?),
            KeySource::PublicKeyFile(path) => {
                let pem = std::fs::read(&path)
                    .map_err(|source| SetupError::KeyFile { path: path.clone(), source })?;
                let key = VerifyingKey::from_pem(algorithm, &pem);
                Keys::One(key.map_err(|problem| SetupError::BadKey { path, problem })?)
            }
            KeySource::Jwks { url } => Keys::Set(Jwks::start(&url, algorithm, &options)?),
        };
        Ok(Verifier {
            algorithm,
            options,
            keys,
            verified: VerifiedTokens::default(),
            recent: Recent::default(),
        })
    }

    /// Verifies a token without waiting. `None` if its key must be fetched first; [`Self::verify`] does that. With a secret or a
    /// key file the result is never `None`. Takes some microseconds with a secret, up to a hundred with a public key, and less than
    /// one for a token that was verified before.
    pub fn verify_now(&self, token: &str, now_ms: i64) -> Option<Result<Identity, TokenError>> {
        match self.advance(token, now_ms) {
            Progress::Done(result) => Some(result),
            Progress::Fetch(..) => None,
        }
    }

    /// Verifies a token, and fetches the key set if the token names an unknown key. Waits at most 8 s.
    ///
    /// # Errors
    /// The token is at fault, unless [`TokenError::is_temporary`] returns true.
    pub async fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, TokenError> {
        let (parts, hash) = match self.advance(token, now_ms) {
            Progress::Done(result) => return result,
            Progress::Fetch(parts, hash) => (parts, hash),
        };
        let Keys::Set(jwks) = &self.keys else { return Err(TokenError::UnknownKey) };
        match jwks.fetch_and_find(parts.header.kid.as_deref()).await {
            Lookup::Found(set) => self.check_by_set(&parts, &set, hash, now_ms),
            Lookup::Missing(error) => Err(error),
            Lookup::Fetch => Err(TokenError::KeysUnavailable),
        }
    }

    /// Whether there is a key to verify with. `false` only until a key set has been fetched for the first time, or after its
    /// issuer has withdrawn all keys. A node is then not ready.
    pub fn has_keys(&self) -> bool {
        match &self.keys {
            Keys::One(_) => true,
            Keys::Set(jwks) => jwks.has_keys(),
        }
    }

    fn advance<'a>(&self, token: &'a str, now_ms: i64) -> Progress<'a> {
        if token.len() > TOKEN_BYTES_MAX {
            return Progress::Done(Err(TokenError::TooLong));
        }
        let hash = VerifiedTokens::hash(token);
        let generation = match &self.keys {
            Keys::One(_) => 0,
            Keys::Set(jwks) => jwks.current().generation,
        };
        if let Some(identity) = self.verified.get(&hash, generation) {
            let valid = now_ms < identity.expires_at_ms;
            return Progress::Done(if valid { Ok(identity) } else { Err(TokenError::Expired) });
        }
        let parts = match Parts::split(token) {
            Ok(parts) => parts,
            Err(error) => return Progress::Done(Err(error)),
        };
        if parts.header.alg != self.algorithm.name() {
            return Progress::Done(Err(TokenError::WrongAlgorithm));
        }
        Progress::Done(match &self.keys {
            Keys::One(key) => self.check(&parts, [key], hash, generation, now_ms),
            Keys::Set(jwks) => match jwks.find(parts.header.kid.as_deref()) {
                Lookup::Found(set) => self.check_by_set(&parts, &set, hash, now_ms),
                Lookup::Missing(error) => Err(error),
                Lookup::Fetch => return Progress::Fetch(parts, hash),
            },
        })
    }

    fn check_by_set(
        &self,
        parts: &Parts<'_>,
        set: &KeySet,
        hash: TokenHash,
        now_ms: i64,
    ) -> Result<Identity, TokenError> {
        self.check(parts, set.named(parts.header.kid.as_deref()), hash, set.generation, now_ms)
    }

    /// Checks the signature before the claims, so that errors reveal nothing about the claims of a forged token.
    fn check<'k>(
        &self,
        parts: &Parts<'_>,
        keys: impl IntoIterator<Item = &'k VerifyingKey>,
        hash: TokenHash,
        generation: u64,
        now_ms: i64,
    ) -> Result<Identity, TokenError> {
        let message = parts.message.as_bytes();
        if !keys.into_iter().any(|key| key.verifies(message, &parts.signature)) {
            return Err(TokenError::BadSignature);
        }
        let claims = parts.claims(|json| Claims::read(json, &self.options.claims))?;
        let mut identity = claims.check(&self.options, now_ms)?;
        self.recent.share(&mut identity);
        self.verified.put(hash, generation, identity.clone());
        Ok(identity)
    }
}

fn check_match(algorithm: Algorithm, source: &KeySource) -> Result<(), SetupError> {
    let symmetric = algorithm == Algorithm::HS256;
    let (key, advice) = match source {
        KeySource::Secret(_) if !symmetric => ("jwt_secret", "a secret is for HS256"),
        KeySource::PublicKeyFile(_) if symmetric => {
            ("jwt_public_key_file", "a public key is for RS256, ES256 or EdDSA")
        }
        KeySource::Jwks { .. } if symmetric => ("jwt_jwks_url", "a key set is for RS256, ES256 or EdDSA"),
        _ => return Ok(()),
    };
    Err(SetupError::AlgorithmMismatch { algorithm: algorithm.name(), key, advice })
}

//! Signature algorithms that a verifier can be pinned to.

use std::fmt;
use std::str::FromStr;

use crate::SetupError;

/// Signature algorithm from RFC 7518 (EdDSA: RFC 8037, Ed25519 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC-SHA256 with a shared secret.
    HS256,
    /// RSA PKCS#1 v1.5 with SHA-256; keys of 2048 to 8192 bits.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// EdDSA with Ed25519.
    EdDSA,
}

impl Algorithm {
    /// Returns the name used in a token's header and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            Algorithm::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = SetupError;

    /// Parses `jwt_algorithm`. Names are case-sensitive, as in a token's header.
    fn from_str(name: &str) -> Result<Algorithm, SetupError> {
        [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| SetupError::UnknownAlgorithm { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_the_four_names() {
        for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
        }
        for name in ["none", "hs256", "HS512", "PS256", ""] {
            let error = name.parse::<Algorithm>().unwrap_err();
            assert!(error.to_string().starts_with("jwt_algorithm"), "{error}");
        }
    }
}

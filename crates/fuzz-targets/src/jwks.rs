//! Key sets: any response of a JWKS endpoint is parsed or refused.

use starling_auth::{Algorithm, fuzzing};

/// Reads a key set.
pub fn jwks(bytes: &[u8]) {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        assert!(fuzzing::keys_in(bytes, algorithm).unwrap_or_default() <= 64);
    }
    assert_eq!(fuzzing::keys_in(bytes, Algorithm::HS256).unwrap_or_default(), 0, "a secret out of a key set");
}

//! Tokens: forged ones are refused, and accepted ones follow the rules, even if the owner of the secret signed anything.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use starling_auth::{Algorithm, Identity, KeySource, TokenError, Verifier, VerifierOptions, user_name};
use starling_model::is_name;

const SECRET: &[u8] = b"a secret that only the fuzzer knows";
const NOW_MS: i64 = 1_800_000_000_000;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let source = KeySource::Secret(SECRET.to_vec());
    Verifier::new(Algorithm::HS256, source, VerifierOptions::default()).expect("a long secret")
});

/// Holds that no forged token is let in, and that what a signed one lets in keeps the rules.
///
/// The bytes are a token; or, behind a byte below 0x20, a header and claims that are to be signed, with a line feed between them.
pub fn token(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first >= 0x20 {
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert!(verify(text).is_err(), "a forged token was let in");
        }
        return;
    }
    let header = br#"{"alg":"HS256"}"#.as_slice();
    let (header, claims) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) if first % 2 == 1 => (&rest[..at], &rest[at + 1..]),
        _ => (header, rest),
    };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    if let Ok(identity) = verify(&token) {
        assert!(is_name(&identity.user) && is_name(&identity.tenant));
        assert!(identity.expires_at_ms > NOW_MS);
        // Verifying it again gives the same result, with or without the cache.
        assert_eq!(verify(&token), Ok(identity.clone()));
        // A number too large for a float is valid JSON and ignored in unused claims, but it cannot be compared.
        if let Ok(claims) = serde_json::from_slice::<serde_json::Value>(claims) {
            let name = claims["sub"].as_str().and_then(user_name);
            assert_eq!(name.as_deref(), Some(&*identity.user));
            if identity.scopes.is_admin() {
                assert!(claims["scope"].to_string().contains("admin"));
            }
        }
        if let Ok(header) = serde_json::from_slice::<serde_json::Value>(header) {
            assert_eq!(header["alg"], "HS256");
        }
    }
}

fn verify(token: &str) -> Result<Identity, TokenError> {
    VERIFIER.verify_now(token, NOW_MS).expect("a secret is always there")
}

//! Signing of tokens, for `starling token` and for tests.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::ClaimNames;

/// Signs a token with HS256 and the default claim names, valid from `now_ms` for `ttl_seconds`.
///
/// The claims are not checked here; a verifier refuses a `tenant` that is not a valid name.
pub fn sign_hs256(
    secret: &[u8],
    user: &str,
    tenant: &str,
    scope: &str,
    now_ms: i64,
    ttl_seconds: u64,
) -> String {
    sign_claims(secret, &ClaimNames::default().of(user, tenant, scope), now_ms, ttl_seconds)
}

/// Signs a token with HS256 and these claims, valid from `now_ms` for `ttl_seconds`. If a name appears twice, the last claim counts.
pub fn sign_claims(secret: &[u8], claims: &[(&str, &str)], now_ms: i64, ttl_seconds: u64) -> String {
    let issued_at = now_ms.div_euclid(1_000);
    let expires_at = issued_at.saturating_add_unsigned(ttl_seconds);
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let mut all = json!({"iat": issued_at, "exp": expires_at});
    for (name, claim) in claims {
        all[*name] = (*claim).into();
    }
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(header), encode(all));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

//! Valid and invalid tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// The contents of a token. Independent of the product's code that reads tokens.
#[derive(Clone, Debug)]
pub struct Token {
    header: Value,
    claims: Map<String, Value>,
}

impl Token {
    /// A token of this user, valid for an hour, with the scope that `starling token` gives by default.
    pub fn of(user: &str) -> Self {
        let claims = Map::from_iter([
            ("sub".to_owned(), json!(user)),
            ("scope".to_owned(), json!("conversations:create subscribe:* publish:*")),
        ]);
        Self { header: json!({"alg": "HS256", "typ": "JWT"}), claims }.ttl(Duration::from_secs(3600))
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(self, tenant: &str) -> Self {
        self.claim("tenant", tenant)
    }

    /// Sets the scope: words with spaces between.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    /// Sets its validity from now, in whole seconds.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.claim("exp", now_seconds() + ttl.as_secs())
    }

    /// Makes it expired for this long.
    #[must_use]
    pub fn expired_for(self, ago: Duration) -> Self {
        self.claim("exp", now_seconds().saturating_sub(ago.as_secs()))
    }

    /// Sets any claim to anything.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets any member of the header to anything, such as `alg` to `none`. [`sign`](Self::sign) signs by HS256 all the same.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// Signs it by HS256.
    pub fn sign(&self, secret: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        self.sign_with(|message| hmac::sign(&key, message).as_ref().to_vec())
    }

    /// Signs it with `signer`, which gets the bytes to sign.
    pub fn sign_with(&self, signer: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let header = URL_SAFE_NO_PAD.encode(self.header.to_string());
        let claims = URL_SAFE_NO_PAD.encode(Value::Object(self.claims.clone()).to_string());
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(signer(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token with `alg: none` and no signature.
    pub fn unsigned(self) -> String {
        self.header("alg", "none").sign_with(|_| Vec::new())
    }
}

/// Replaces the claims of a signed token and keeps its signature.
pub fn forge_claims(token: &str, claims: &Value) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    if let Some(part) = parts.get_mut(1) {
        *part = &claims;
    }
    parts.join(".")
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_example_of_rfc_7515_does() {
        // Appendix A.1: its header and claims are spaced by CRLF, so only the signature's making is compared.
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = URL_SAFE_NO_PAD.decode(key).unwrap();
        let message = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                       eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), message.as_bytes());
        assert_eq!(URL_SAFE_NO_PAD.encode(signature), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn a_token_says_what_was_asked_for() {
        let token = Token::of("ada").tenant("acme").claim("nbf", 5).without("scope").sign("secret");
        let parts: Vec<&str> = token.split('.').collect();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(
            (&claims["sub"], &claims["tenant"], &claims["nbf"]),
            (&json!("ada"), &json!("acme"), &json!(5))
        );
        assert!(claims["exp"].as_u64().unwrap() > now_seconds() && claims.get("scope").is_none());
    }

    #[test]
    fn forged_tokens_differ_where_they_should() {
        let good = Token::of("ada").sign("secret");
        let forged = forge_claims(&good, &json!({"sub": "eve"}));
        assert_eq!(good.rsplit('.').next(), forged.rsplit('.').next());
        assert_ne!(good.split('.').nth(1), forged.split('.').nth(1));
        assert!(Token::of("ada").unsigned().ends_with('.'));
    }
}

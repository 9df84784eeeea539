//! `starling token`: prints a token that a node with the same configuration accepts.

use std::time::{SystemTime, UNIX_EPOCH};

use starling_auth::{sign_claims, user_name};
use starling_model::{NAME_RULE, is_name};
use starling_settings::BadConfig;

use crate::config::Config;
use crate::failure::Failure;
use crate::keys::{claim_names, no_key, secret_bytes};
use crate::own_secret::OwnSecret;

/// What a token is to say.
pub struct TokenRequest {
    /// The user.
    pub user: String,
    /// The user's tenant.
    pub tenant: String,
    /// What it allows, with spaces between.
    pub scope: String,
    /// How long it is valid.
    pub ttl_seconds: u64,
}

/// Signs a token.
pub fn token(config: &Config, request: &TokenRequest) -> Result<String, Failure> {
    let TokenRequest { user, tenant, scope, ttl_seconds } = request;
    if user_name(user).is_none() {
        return Err(BadConfig(format!("--user: {user:?} is empty or holds control characters")).into());
    }
    if !is_name(tenant) {
        return Err(BadConfig(format!("--tenant: `{tenant}` is no name; {NAME_RULE}")).into());
    }
    let secret = signing_secret(config)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    Ok(sign_claims(&secret, &claim_names(&config.tokens).of(user, tenant, scope), now_ms, *ttl_seconds))
}

/// The secret with which nodes of this configuration check tokens.
fn signing_secret(config: &Config) -> Result<Vec<u8>, Failure> {
    let tokens = &config.tokens;
    // A secret beside a public key only signs tickets.
    let keys = [
        ("jwt_public_key_file", tokens.public_key_file.is_some()),
        ("jwt_jwks_url", tokens.jwks_url.is_some()),
    ];
    if let Some((key, _)) = keys.into_iter().find(|(_, is_set)| *is_set) {
        let why = "is set, so tokens are signed by the owner of the private key";
        return Err(BadConfig(format!("{key}: {why}")).into());
    }
    if let Some(secret) = secret_bytes("jwt_secret", tokens.jwt_secret.as_ref())? {
        return Ok(secret);
    }
    let own = OwnSecret::of(config)?;
    match &own {
        OwnSecret::NotNeeded => {}
        OwnSecret::Forgotten => {
            let why =
                "jwt_secret: is not set, and a node whose database is in memory does not keep its own secret";
            return Err(BadConfig(why.into()).into());
        }
        // Only a node makes the file: tokens that are signed with another secret would be refused.
        OwnSecret::Kept(file) if !file.exists() => {
            return Err(BadConfig(format!(
                "jwt_secret: is not set, and there is no {}, where a node keeps the secret that it makes at its first start; run this \
                 in the node's working directory with the node's configuration",
                file.display()
            ))
            .into());
        }
        OwnSecret::Kept(_) => {}
    }
    Ok(own.read_or_make()?.ok_or_else(no_key)?)
}

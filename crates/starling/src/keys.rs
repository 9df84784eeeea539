//! How tokens are checked and tickets signed, as the configuration says.

use starling_auth::{Algorithm, ClaimNames, KeySource, TicketKey, VerifierOptions};
use starling_settings::{BadConfig, Secret};

use crate::config::{Config, TokenSettings};

/// The fewest bytes of a secret.
pub const SECRET_BYTES_MIN: usize = 32;

/// How tokens are checked and tickets signed.
pub struct Keys {
    /// The algorithm of tokens.
    pub algorithm: Algorithm,
    /// Where the key of tokens is.
    pub source: KeySource,
    /// What else a token must say.
    pub options: VerifierOptions,
    /// Signs and opens tickets.
    pub tickets: TicketKey,
    /// The secret that a node without configuration made for itself. Links with tokens are then printed.
    pub own_secret: Option<Vec<u8>>,
}

impl Keys {
    /// Checks the settings of tokens. `own`: the secret that the node made for itself.
    pub fn read(config: &Config, own: Option<Vec<u8>>) -> Result<Keys, BadConfig> {
        let tokens = &config.tokens;
        let secret = secret_bytes("jwt_secret", tokens.jwt_secret.as_ref())?;
        let (algorithm, source) = source(tokens, secret.clone().or(own.clone()))?;
        let signing = secret_bytes("ticket_secret", tokens.ticket_secret.as_ref())?;
        let signing = match signing.or(secret).or(own.clone()) {
            Some(signing) => signing,
            None if config.redis.url.is_some() => {
                let why = "ticket_secret: is needed on all nodes where there is no jwt_secret";
                return Err(BadConfig(why.into()));
            }
            // The tickets of a single node may end with it.
            None => rand::random::<[u8; 32]>().to_vec(),
        };
        let mut tickets = TicketKey::from_secret(&signing).map_err(|error| BadConfig(error.to_string()))?;
        let previous = secret_bytes("ticket_secret_previous", tokens.ticket_secret_previous.as_ref())?;
        if let Some(previous) = previous {
            tickets = tickets.with_previous(&previous).map_err(|error| BadConfig(error.to_string()))?;
        }
        let options = VerifierOptions {
            issuers: tokens.issuers.clone(),
            audiences: tokens.audiences.clone(),
            claims: claim_names(tokens),
            ..VerifierOptions::default()
        };
        Ok(Keys { algorithm, source, options, tickets, own_secret: own })
    }
}

/// The algorithm of tokens, and where its key is.
fn source(tokens: &TokenSettings, secret: Option<Vec<u8>>) -> Result<(Algorithm, KeySource), BadConfig> {
    let source = match (&tokens.public_key_file, &tokens.jwks_url, secret) {
        (Some(_), Some(_), _) => {
            return Err(BadConfig("jwt_jwks_url: can't be set together with jwt_public_key_file".into()));
        }
        (Some(file), None, _) => KeySource::PublicKeyFile(file.clone()),
        (None, Some(url), _) => KeySource::Jwks { url: url.expose().to_owned() },
        (None, None, Some(secret)) => {
            return Ok((tokens.algorithm.unwrap_or(Algorithm::HS256), KeySource::Secret(secret)));
        }
        (None, None, None) => return Err(no_key()),
    };
    let needed = "jwt_algorithm: is needed with a key file or key set: RS256, ES256 or EdDSA";
    Ok((tokens.algorithm.ok_or_else(|| BadConfig(needed.into()))?, source))
}

/// The claims of tokens that name the user, the tenant and the scopes.
pub fn claim_names(tokens: &TokenSettings) -> ClaimNames {
    ClaimNames {
        user: tokens.user_claim.clone(),
        tenant: tokens.tenant_claim.clone(),
        scope: tokens.scope_claim.clone(),
    }
}

/// The error of a configuration without any key.
pub fn no_key() -> BadConfig {
    BadConfig(
        "jwt_secret: is needed with redis_url, the same on all nodes, 32 bytes or more (or jwt_public_key_file or \
         jwt_jwks_url, with ticket_secret)"
            .into(),
    )
}

/// The bytes of a secret that is long enough.
pub fn secret_bytes(key: &str, secret: Option<&Secret>) -> Result<Option<Vec<u8>>, BadConfig> {
    let Some(secret) = secret else { return Ok(None) };
    let bytes = secret.expose();
    if bytes.len() < SECRET_BYTES_MIN {
        let long = bytes.len();
        return Err(BadConfig(format!("{key}: is {long} bytes long; {SECRET_BYTES_MIN} or more are needed")));
    }
    Ok(Some(bytes.to_vec()))
}

//! The token that a check connects with.

use starling_settings::BadConfig;

use super::request::CheckRequest;
use crate::config::Config;
use crate::failure::Failure;
use crate::token::{self, TokenRequest};

/// The user of a token that is signed here.
const USER: &str = "starling-check";
/// What it allows.
const SCOPE: &str = "conversations:create";
/// How long it is valid: longer than any check takes.
const TTL_SECONDS: u64 = 300;

/// The token that was given, or one that the configuration's secret signs.
pub fn token(config: &Config, request: &CheckRequest) -> Result<String, Failure> {
    if let Some(token) = &request.token {
        return Ok(token.trim().to_owned());
    }
    if let Some(file) = &request.token_file {
        let bad = |why: String| BadConfig(format!("--token-file: {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        return match text.trim() {
            "" => Err(bad("is empty".into()).into()),
            token => Ok(token.to_owned()),
        };
    }
    let own = TokenRequest {
        user: USER.to_owned(),
        tenant: request.tenant.clone(),
        scope: SCOPE.to_owned(),
        ttl_seconds: TTL_SECONDS,
    };
    token::token(config, &own).map_err(|failure| Failure {
        message: format!("{}; or give a token of your own with --token-file", failure.message),
        ..failure
    })
}

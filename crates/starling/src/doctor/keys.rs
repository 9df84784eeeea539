//! The keys that tokens are checked with.

use std::time::Duration;

use starling_auth::{KeySource, Verifier};
use tokio::time::{Instant, sleep};

use super::examination::Examination;
use super::quantity::time;
use crate::config::Config;
use crate::keys::Keys;
use crate::own_secret::OwnSecret;

/// How long a key set may take to be fetched.
const FETCH_MAX: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Examines the keys of somebody else: a file, or a key set. A secret is examined with the other secrets.
pub async fn examine(examination: &mut Examination, config: &Config) {
    if !config.node.roles.gateway || !matches!(OwnSecret::of(config), Ok(OwnSecret::NotNeeded)) {
        return;
    }
    // What is wrong with the settings was found with the configuration.
    let Ok(keys) = Keys::read(config, None) else { return };
    let subject = match &keys.source {
        KeySource::Jwks { .. } => "jwt_jwks_url",
        KeySource::PublicKeyFile(_) => "jwt_public_key_file",
        _ => return,
    };
    let verifier = match Verifier::new(keys.algorithm, keys.source, keys.options) {
        Ok(verifier) => verifier,
        Err(error) => {
            let advice = "the file must hold the public key in PEM that belongs to jwt_algorithm";
            return examination.problem(subject, error.to_string(), advice);
        }
    };
    let began = Instant::now();
    while !verifier.has_keys() && began.elapsed() < FETCH_MAX {
        sleep(LOOK).await;
    }
    match verifier.has_keys() {
        true => examination.good(subject, format!("the keys are there, after {}", time(began.elapsed()))),
        false => examination.problem(
            subject,
            format!("no key could be fetched within {} s", FETCH_MAX.as_secs()),
            "curl the address from here: it must answer with a key set that has a key for jwt_algorithm. Until then the node is \
             not ready (no_keys)",
        ),
    }
    if config.tokens.audiences.is_empty() && subject == "jwt_jwks_url" {
        examination.warning(
            "jwt_audience",
            "is not set: tokens that the same issuer made for other services are accepted, too",
            "set it to what your tokens have in aud, unless nothing else uses this key set",
        );
    }
}

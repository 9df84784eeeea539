//! Secrets that requests are signed with.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long the old secret still signs after a rotation, so that a backend may change over at any time in between.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// What every secret begins with, so that it is recognized where it should not be.
const PREFIX: &str = "whsec_";
/// Length of a new secret, bytes: that of the hash, as RFC 2104 recommends.
const NEW_BYTES: usize = 32;
/// The shortest and the longest secret that the convention allows, bytes.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that the node and one backend share. Its text is `whsec_` and the key in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    key: Vec<u8>,
}

/// A text that is no secret. The giver is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and 24 to 64 bytes in base64")]
pub struct InvalidSecret;

impl Secret {
    /// Makes a new secret.
    #[must_use]
    pub fn generate() -> Self {
        Self { key: rand::random::<[u8; NEW_BYTES]>().to_vec() }
    }

    /// Reads a secret as [`Self::expose`] writes it.
    ///
    /// # Errors
    /// [`InvalidSecret`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let key = text.strip_prefix(PREFIX).and_then(|key| STANDARD.decode(key).ok()).ok_or(InvalidSecret)?;
        if BYTES.contains(&key.len()) { Ok(Self { key }) } else { Err(InvalidSecret) }
    }

    /// Returns the text of the secret, for the backend that shares it and for the database.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.key))
    }

    /// Returns the key of the signatures.
    pub(crate) fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.key)
    }
}

impl fmt::Debug for Secret {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let secret = Secret::generate();
        assert_eq!(Secret::parse(&secret.expose()), Ok(secret.clone()));
        assert_ne!(secret, Secret::generate());
    }

    #[test]
    fn other_texts_are_no_secrets() {
        let long = |bytes| format!("whsec_{}", STANDARD.encode(vec![0; bytes]));
        assert!(Secret::parse(&long(24)).is_ok() && Secret::parse(&long(64)).is_ok());
        for text in [&long(23), &long(65), "", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(Secret::parse(text), Err(InvalidSecret), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::generate()), "Secret(…)");
    }
}

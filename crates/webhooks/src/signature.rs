//! Signatures by the specification of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Secret;

/// How far the timestamp of a request may be from the time at which it is verified. The convention's libraries have the same limit.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The version of a signature by a shared secret.
const VERSION: &str = "v1";

/// The three headers of a signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// Names the event. All attempts to deliver it have the same id.
    pub id: String,
    /// When the attempt was made, Unix seconds.
    pub timestamp: u64,
    /// One signature for each secret, separated by spaces: `v1,` and the signature in base64.
    pub signature: String,
}

/// Why a request was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotVerified {
    /// The timestamp differs from now by more than [`TOLERANCE`].
    #[error("the timestamp is too old or too new")]
    Timestamp,
    /// No signature was made with this secret over this request.
    #[error("no signature matches")]
    Signature,
}

impl SignedHeaders {
    /// The header of [`Self::id`].
    pub const ID: &'static str = "webhook-id";
    /// The header of [`Self::timestamp`].
    pub const TIMESTAMP: &'static str = "webhook-timestamp";
    /// The header of [`Self::signature`].
    pub const SIGNATURE: &'static str = "webhook-signature";

    /// Signs a request with each of the secrets. There are two while a secret is rotated.
    #[must_use]
    pub fn sign(secrets: &[Secret], id: &str, now: SystemTime, body: &[u8]) -> Self {
        let timestamp = unix_seconds(now);
        let signatures: Vec<String> = secrets
            .iter()
            .map(|secret| {
                let tag = tag(&secret.key(), id, timestamp, body);
                format!("{VERSION},{}", STANDARD.encode(tag))
            })
            .collect();
        Self { id: id.to_owned(), timestamp, signature: signatures.join(" ") }
    }

    /// Verifies a request as a backend does.
    ///
    /// # Errors
    /// [`NotVerified`], with the reason.
    pub fn verify(&self, secret: &Secret, now: SystemTime, body: &[u8]) -> Result<(), NotVerified> {
        if self.timestamp.abs_diff(unix_seconds(now)) > TOLERANCE.as_secs() {
            return Err(NotVerified::Timestamp);
        }
        let key = secret.key();
        let message = message(&self.id, self.timestamp, body);
        let matches = |signature: &str| {
            let (version, tag) = signature.split_once(',')?;
            let tag = STANDARD.decode(tag).ok()?;
            (version == VERSION && hmac::verify(&key, &message, &tag).is_ok()).then_some(())
        };
        self.signature.split(' ').find_map(matches).ok_or(NotVerified::Signature)
    }
}

fn tag(key: &hmac::Key, id: &str, timestamp: u64, body: &[u8]) -> hmac::Tag {
    hmac::sign(key, &message(id, timestamp, body))
}

fn message(id: &str, timestamp: u64, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    message
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = b"{\"test\": 2432232314}";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The vector is that of the convention's own tests (`libraries/javascript/src/index.test.ts`).
    #[test]
    fn the_published_vector_is_signed_alike() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = SignedHeaders::sign(&[secret], ID, at(1_614_265_330), BODY);
        assert_eq!(signed.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_secret_is_rotated_the_old_and_the_new_one_verify() {
        let secrets = [Secret::generate(), Secret::generate()];
        let signed = SignedHeaders::sign(&secrets, ID, at(1000), BODY);
        for secret in &secrets {
            assert_eq!(signed.verify(secret, at(1000), BODY), Ok(()));
        }
        assert_eq!(signed.verify(&Secret::generate(), at(1000), BODY), Err(NotVerified::Signature));
    }

    #[test]
    fn what_was_changed_is_not_verified() {
        let secret = Secret::generate();
        let signed = SignedHeaders::sign(std::slice::from_ref(&secret), ID, at(1000), BODY);
        let refused = |changed: SignedHeaders, body: &[u8]| changed.verify(&secret, at(1000), body);
        assert_eq!(refused(signed.clone(), b"{}"), Err(NotVerified::Signature));
        assert_eq!(
            refused(SignedHeaders { id: "other".into(), ..signed.clone() }, BODY),
            Err(NotVerified::Signature)
        );
        assert_eq!(
            refused(SignedHeaders { timestamp: 1001, ..signed.clone() }, BODY),
            Err(NotVerified::Signature)
        );
        for signature in
            ["", "v1", "v1,", "v1,!", &signed.signature.replace("v1,", "v2,"), &signed.signature[..40]]
        {
            let changed = SignedHeaders { signature: signature.to_owned(), ..signed.clone() };
            assert_eq!(refused(changed, BODY), Err(NotVerified::Signature), "{signature}");
        }
    }

    #[test]
    fn a_request_is_only_verified_near_its_time() {
        let secret = Secret::generate();
        let signed = SignedHeaders::sign(std::slice::from_ref(&secret), ID, at(1000), BODY);
        for near in [700, 1300] {
            assert_eq!(signed.verify(&secret, at(near), BODY), Ok(()));
        }
        for far in [699, 1301] {
            assert_eq!(signed.verify(&secret, at(far), BODY), Err(NotVerified::Timestamp));
        }
    }
}

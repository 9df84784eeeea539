//! Resume tickets: a session's id and its owner, signed by the node that issued them and valid on every node with the same secret.
//!
//! A ticket is `base64url(version, issued at, session, tenant, user, tag)`: each text is preceded by its length. The tag is
//! HMAC-SHA256 over everything before it, truncated to 128 bits (RFC 2104, section 5).

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use starling_model::{TenantName, UserName};

use crate::SetupError;
use crate::key::SECRET_BYTES_MIN;

/// Contents of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Session id; at most 255 bytes.
    pub session: String,
    /// Tenant that the session belongs to; at most 255 bytes.
    pub tenant: TenantName,
    /// User that the session belongs to; at most 255 bytes. A resume also needs a valid token of the same user and tenant.
    pub user: UserName,
    /// Time of issue in Unix milliseconds.
    pub issued_at_ms: i64,
}

/// Reason to refuse a ticket. The client then gets a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The ticket was not signed with this secret, or was altered.
    #[error("the ticket is not valid")]
    Invalid,
    /// The ticket is too old, or further in the future than clocks may differ.
    #[error("the ticket has expired")]
    Expired,
}

/// Key that signs tickets.
pub struct TicketKey {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

/// First byte of every ticket. A new layout would get a new version.
const VERSION: u8 = 1;

/// Length of the tag in bytes.
const TAG_BYTES: usize = 16;

/// Longest ticket in characters: version, time, three texts of 255 bytes with their lengths, and the tag, in base64.
const TEXT_BYTES_MAX: usize = (1 + 8 + 3 * 256 + TAG_BYTES).div_ceil(3) * 4;

/// Greatest difference between the clocks of two nodes in milliseconds.
const SKEW_MS_MAX: i64 = 5_000;

/// Label for deriving the signing key, so that no ticket can pass for a token if both use the same secret.
const LABEL: &[u8] = b"starling resume ticket, version 1";

impl TicketKey {
    /// Derives the key from `ticket_secret` (or from `jwt_secret` if that is not set).
    ///
    /// # Errors
    /// [`SetupError::ShortSecret`] if the secret has fewer than [`SECRET_BYTES_MIN`] bytes.
    pub fn from_secret(secret: &[u8]) -> Result<TicketKey, SetupError> {
        Ok(TicketKey { current: derive(secret, "ticket_secret")?, previous: None })
    }

    /// Also accepts tickets that were signed with the previous secret, while a new secret is rolled out.
    ///
    /// # Errors
    /// [`SetupError::ShortSecret`] if the secret has fewer than [`SECRET_BYTES_MIN`] bytes.
    pub fn with_previous(self, secret: &[u8]) -> Result<TicketKey, SetupError> {
        Ok(TicketKey { previous: Some(derive(secret, "ticket_secret_previous")?), ..self })
    }

    /// Returns the ticket as the text that a client keeps: about 110 characters, URL-safe. Fields longer than 255 bytes are truncated; such
    /// a ticket does not match its session.
    pub fn sign(&self, ticket: &Ticket) -> String {
        let texts: [&str; 3] = [&ticket.session, &ticket.tenant, &ticket.user];
        let length: usize = texts.iter().map(|text| text.len() + 1).sum();
        let mut bytes = Vec::with_capacity(1 + 8 + length + TAG_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&ticket.issued_at_ms.to_be_bytes());
        for text in texts {
            let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text);
        }
        let tag = hmac::sign(&self.current, &bytes);
        bytes.extend_from_slice(&tag.as_ref()[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Verifies and parses a ticket that is at most `lifetime_ms_max` old.
    ///
    /// # Errors
    /// See [`TicketError`]. The error reveals nothing else about a ticket with a wrong signature.
    pub fn open(&self, text: &str, now_ms: i64, lifetime_ms_max: i64) -> Result<Ticket, TicketError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TicketError::Invalid)?;
        let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(TicketError::Invalid)?;
        let signed_with = |key: &hmac::Key| {
            let expected = hmac::sign(key, body);
            constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG_BYTES], tag).is_ok()
        };
        if !signed_with(&self.current) && !self.previous.as_ref().is_some_and(signed_with) {
            return Err(TicketError::Invalid);
        }
        let ticket = read(body).ok_or(TicketError::Invalid)?;
        let age_ms = now_ms.saturating_sub(ticket.issued_at_ms);
        if age_ms > lifetime_ms_max || age_ms < -SKEW_MS_MAX {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }
}

fn derive(secret: &[u8], key: &'static str) -> Result<hmac::Key, SetupError> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(SetupError::ShortSecret { key, bytes: secret.len() });
    }
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
    Ok(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
}

pub(crate) fn read(body: &[u8]) -> Option<Ticket> {
    let (&version, rest) = body.split_first()?;
    let (issued_at_ms, mut rest) = rest.split_first_chunk::<8>()?;
    let mut text = || {
        let (&length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        std::str::from_utf8(text).ok()
    };
    let (session, tenant, user) = (text()?, text()?, text()?);
    let issued_at_ms = i64::from_be_bytes(*issued_at_ms);
    (version == VERSION && rest.is_empty()).then(|| Ticket {
        session: session.to_owned(),
        tenant: tenant.into(),
        user: user.into(),
        issued_at_ms,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn key(secret: u8) -> TicketKey {
        TicketKey::from_secret(&[secret; 32]).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            session: "0197f3a2-7c1e-7bd0-a7d2-3f1e5c9b8a60".to_owned(),
            tenant: "default".into(),
            user: "ann".into(),
            issued_at_ms: NOW_MS,
        }
    }

    #[test]
    fn opens_on_every_node_with_the_secret_and_on_no_other() {
        let text = key(1).sign(&ticket());
        assert_eq!(key(1).open(&text, NOW_MS + HOUR_MS, HOUR_MS), Ok(ticket()));
        assert_eq!(key(2).open(&text, NOW_MS, HOUR_MS), Err(TicketError::Invalid));
        assert!(
            text.len() < 120 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn is_bound_to_its_time() {
        let text = key(1).sign(&ticket());
        assert_eq!(key(1).open(&text, NOW_MS + HOUR_MS + 1, HOUR_MS), Err(TicketError::Expired));
        assert_eq!(key(1).open(&text, NOW_MS - SKEW_MS_MAX, HOUR_MS), Ok(ticket()));
        assert_eq!(key(1).open(&text, NOW_MS - SKEW_MS_MAX - 1, HOUR_MS), Err(TicketError::Expired));
    }

    #[test]
    fn tickets_outlive_one_change_of_the_secret() {
        let old = key(1).sign(&ticket());
        let rotated = key(2).with_previous(&[1; 32]).unwrap();
        assert_eq!(rotated.open(&old, NOW_MS, HOUR_MS), Ok(ticket()));
        assert_eq!(key(2).open(&rotated.sign(&ticket()), NOW_MS, HOUR_MS), Ok(ticket()));
        let rotated_twice = key(3).with_previous(&[2; 32]).unwrap();
        assert_eq!(rotated_twice.open(&old, NOW_MS, HOUR_MS), Err(TicketError::Invalid));
    }

    #[test]
    fn the_key_is_not_the_secret_itself() {
        let secret = [1; 32];
        let text = key(1).sign(&ticket());
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        let (body, tag) = bytes.split_at(bytes.len() - TAG_BYTES);
        let plain = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), body);
        assert_ne!(&plain.as_ref()[..TAG_BYTES], tag);
    }

    #[test]
    fn a_short_secret_is_refused_by_name() {
        let error = TicketKey::from_secret(&[1; 31]).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("ticket_secret has 31 bytes"), "{error}");
    }

    #[test]
    fn texts_that_are_too_long_do_not_break_signing() {
        let long = Ticket { user: "é".repeat(200).into(), ..ticket() };
        let text = key(1).sign(&long);
        assert_ne!(key(1).open(&text, NOW_MS, HOUR_MS), Ok(long));
    }

    proptest! {
        #[test]
        fn any_ticket_comes_back(session in ".{0,60}", tenant in ".{0,60}", user in ".{0,60}", issued_at_ms: i64) {
            let ticket = Ticket { session, tenant: tenant.into(), user: user.into(), issued_at_ms };
            prop_assert_eq!(key(1).open(&key(1).sign(&ticket), issued_at_ms, 0), Ok(ticket));
        }

        #[test]
        fn no_altered_ticket_opens(position in 0usize..93, flip in 1u8..=255) {
            let mut bytes = URL_SAFE_NO_PAD.decode(key(1).sign(&ticket())).unwrap();
            let position = position % bytes.len();
            bytes[position] ^= flip;
            let altered = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(key(1).open(&altered, NOW_MS, i64::MAX), Err(TicketError::Invalid));
        }

        #[test]
        fn garbage_is_refused(text in ".{0,1500}") {
            prop_assert_eq!(key(1).open(&text, NOW_MS, i64::MAX), Err(TicketError::Invalid));
        }

        #[test]
        fn signed_garbage_is_refused(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = body;
            bytes.insert(0, 9);
            let tag = hmac::sign(&key(1).current, &bytes);
            bytes.extend_from_slice(&tag.as_ref()[..TAG_BYTES]);
            let text = URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(key(1).open(&text, NOW_MS, i64::MAX), Err(TicketError::Invalid));
        }
    }
}

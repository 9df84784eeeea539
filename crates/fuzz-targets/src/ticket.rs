//! Resume tickets: unsigned ones are refused, and signed ones are returned unchanged.

use std::sync::LazyLock;

use starling_auth::{Ticket, TicketError, TicketKey, fuzzing};

const NOW_MS: i64 = 1_800_000_000_000;

static KEY: LazyLock<TicketKey> =
    LazyLock::new(|| TicketKey::from_secret(b"a secret that only the fuzzer knows").expect("a long secret"));

/// Holds that no forged ticket is opened, and that a signed one comes back as it was made.
pub fn ticket(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(KEY.open(text, NOW_MS, i64::MAX).is_err(), "a forged ticket was opened");
    }
    let Some(ticket) = fuzzing::ticket_body(bytes) else { return };
    let text = KEY.sign(&ticket);
    match KEY.open(&text, NOW_MS, i64::MAX) {
        Ok(again) => assert_eq!(again, ticket),
        Err(error) => assert_eq!(error, TicketError::Expired),
    }
    // A fresh ticket is accepted; with any character changed or removed it is not.
    let ticket = Ticket { issued_at_ms: NOW_MS, ..ticket };
    let text = KEY.sign(&ticket);
    assert_eq!(KEY.open(&text, NOW_MS, 0).as_ref(), Ok(&ticket));
    let at = usize::from(bytes[bytes.len() - 1]) % text.len();
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    for forged in [format!("{}{other}{}", &text[..at], &text[at + 1..]), text[..at].to_owned()] {
        assert_eq!(KEY.open(&forged, NOW_MS, 0), Err(TicketError::Invalid));
    }
}

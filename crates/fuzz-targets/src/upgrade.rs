//! Headers of an opening handshake: whatever they contain, the response header can be sent, and the negotiated parameters were
//! offered.

use http::{HeaderMap, HeaderName, HeaderValue};
use starling_gateway::{Origins, fuzzing};
use starling_wire::websocket::deflate::{DeflateConfig, negotiate};
use starling_wire::websocket::{choose_subprotocol, validate_upgrade};

/// Headers that the handshake reads.
const NAMES: [&str; 9] = [
    "authorization",
    "connection",
    "host",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
];

/// Holds that the answer to an opening handshake is a header that may be sent, and agrees to nothing that was not offered.
///
/// Each line of the bytes is a header: a digit for its name, then its value.
pub fn upgrade(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some((name, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    if let Ok(accept) = validate_upgrade(&headers) {
        assert_eq!(accept.len(), 28);
    }
    let values = |name: &str| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    if let Some(Some(encoding)) = choose_subprotocol(values("sec-websocket-protocol")) {
        assert!(values("sec-websocket-protocol").any(|value| value.contains(encoding.subprotocol())));
    }
    let offers: Vec<&str> = values("sec-websocket-extensions").collect();
    for config in
        [DeflateConfig::default(), DeflateConfig { client_max_window_bits: 10, ..DeflateConfig::default() }]
    {
        if let Some((params, answer)) = negotiate(&offers.join(", "), config) {
            assert!(answer.starts_with("permessage-deflate") && HeaderValue::from_str(&answer).is_ok());
            assert!((9..=15).contains(&params.server_max_window_bits));
            assert!((8..=15).contains(&params.client_max_window_bits));
        }
    }
    assert!(fuzzing::bearer(&headers).is_none_or(|token| token.trim() == token));
    let _ = fuzzing::allows_origin(&Origins::SameHost, &headers);
    let these = Origins::new(["https://app.example"]).expect("an origin");
    if headers.contains_key("origin") && fuzzing::allows_origin(&these, &headers) {
        let origin = String::from_utf8_lossy(headers["origin"].as_bytes()).to_ascii_lowercase();
        let port = origin.strip_prefix("https://app.example").expect("no other origin");
        assert!(port.is_empty() || port == ":" || port[1..].parse() == Ok(443_u16), "{origin}");
    }
}

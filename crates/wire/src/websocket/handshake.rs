//! Parts of the opening handshake that need no socket (RFC 6455, section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use sha1::{Digest, Sha1};

use crate::protocol::Encoding;

/// Reason why a request is not a valid opening handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The request does not ask for an upgrade to WebSocket.
    #[error("not a WebSocket upgrade: `Connection: Upgrade` and `Upgrade: websocket` are needed")]
    NotAnUpgrade,
    /// The request asks for another version. The response carries `Sec-WebSocket-Version: 13`.
    #[error("only version 13 of WebSocket is supported")]
    UnsupportedVersion,
    /// The key is not 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64")]
    BadKey,
}

impl UpgradeError {
    /// Returns the status of the response: 426 if the client could ask in another way, otherwise 400.
    pub fn status(self) -> http::StatusCode {
        match self {
            UpgradeError::NotAnUpgrade | UpgradeError::UnsupportedVersion => {
                http::StatusCode::UPGRADE_REQUIRED
            }
            UpgradeError::BadKey => http::StatusCode::BAD_REQUEST,
        }
    }
}

/// Checks the headers of an HTTP/1.1 GET request and returns the value for `Sec-WebSocket-Accept` in the response.
///
/// # Errors
///
/// The request must be refused with [`UpgradeError::status`].
pub fn validate_upgrade(headers: &HeaderMap) -> Result<String, UpgradeError> {
    if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes().trim_ascii() != b"13") {
        return Err(UpgradeError::UnsupportedVersion);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).map(str::trim);
    let key = key.filter(|key| is_key(key)).ok_or(UpgradeError::BadKey)?;
    Ok(accept_key(key))
}

/// Returns the value that proves to a client that the server understood its key.
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// Chooses a sub-protocol: the first known one in the values of the request's `Sec-WebSocket-Protocol` headers.
///
/// `None`: only unknown ones are offered; refuse with HTTP 400. `Some(None)`: none is offered; use JSON and send no such
/// header. `Some(Some(encoding))`: send [`Encoding::subprotocol`].
pub fn choose_subprotocol<'a>(offered: impl Iterator<Item = &'a str>) -> Option<Option<Encoding>> {
    let mut any = false;
    for name in offered.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        any = true;
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            if name == encoding.subprotocol() {
                return Some(Some(encoding));
            }
        }
    }
    if any { None } else { Some(None) }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn is_key(key: &str) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && BASE64.decode_slice(key, &mut bytes) == Ok(16)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let headers = request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(validate_upgrade(&headers).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn a_request_that_is_no_handshake_is_refused() {
        let [connection, upgrade] = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let [version, key] =
            [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
        for (headers, error, status) in [
            (vec![upgrade, version, key], UpgradeError::NotAnUpgrade, 426),
            (vec![connection, version, key], UpgradeError::NotAnUpgrade, 426),
            (vec![connection, ("upgrade", "h2c"), version, key], UpgradeError::NotAnUpgrade, 426),
            (vec![connection, upgrade, key], UpgradeError::UnsupportedVersion, 426),
            (
                vec![connection, upgrade, ("sec-websocket-version", "8"), key],
                UpgradeError::UnsupportedVersion,
                426,
            ),
            (vec![connection, upgrade, version], UpgradeError::BadKey, 400),
            (
                vec![connection, upgrade, version, ("sec-websocket-key", "c2hvcnQ=")],
                UpgradeError::BadKey,
                400,
            ),
            (
                vec![connection, upgrade, version, ("sec-websocket-key", "!!!!IHNhbXBsZSBub25jZQ==")],
                UpgradeError::BadKey,
                400,
            ),
        ] {
            assert_eq!(validate_upgrade(&request(&headers)), Err(error));
            assert_eq!(error.status().as_u16(), status);
        }
    }

    #[test]
    fn the_first_known_subprotocol_is_chosen() {
        let choose = |offered: &[&'static str]| choose_subprotocol(offered.iter().copied());
        assert_eq!(choose(&[]), Some(None));
        assert_eq!(choose(&[""]), Some(None));
        assert_eq!(choose(&["starling.v1.json"]), Some(Some(Encoding::Json)));
        assert_eq!(
            choose(&["other, starling.v1.msgpack", "starling.v1.json"]),
            Some(Some(Encoding::MsgPack))
        );
        assert_eq!(choose(&["starling.v2.json", "STARLING.V1.JSON"]), None);
    }
}

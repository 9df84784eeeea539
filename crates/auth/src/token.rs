//! Parser for the compact form of a JWT (RFC 7515, section 7.1). Nothing here is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::TokenError;

/// Longest token in bytes; longer ones are refused unread. A token must fit into a request header, which servers limit to 8 KiB too.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Longest `kid` in bytes. No key set contains a longer one.
const KID_BYTES_MAX: usize = 256;

/// Token split into its three parts.
pub(crate) struct Parts<'a> {
    /// Signed part: header and claims, still encoded.
    pub message: &'a str,
    /// Claims, still encoded.
    claims: &'a str,
    /// Decoded signature.
    pub signature: Vec<u8>,
    /// Parsed header.
    pub header: Header,
}

/// Header fields that Starling uses. Keys inside the token (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
#[derive(Deserialize)]
pub(crate) struct Header {
    /// Algorithm that the token claims to be signed with.
    pub alg: String,
    /// Key that the token claims to be signed with.
    pub kid: Option<String>,
    /// Extensions that must be understood. Starling supports none, so it refuses tokens with `crit` (RFC 7515, section 4.1.11).
    crit: Option<IgnoredAny>,
}

impl<'a> Parts<'a> {
    /// Splits a token and parses its header.
    pub(crate) fn split(token: &'a str) -> Result<Parts<'a>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') {
            return Err(TokenError::Malformed);
        }
        let header = decode_object(header).map_err(|()| TokenError::Malformed)?;
        let header: Header = serde_json::from_str(&header).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(TokenError::UnknownKey);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        Ok(Parts { message, claims, signature, header })
    }

    /// Parses the claims. Must only be called after the signature has been verified.
    pub(crate) fn claims<T>(
        &self,
        read: impl FnOnce(&str) -> serde_json::Result<T>,
    ) -> Result<T, TokenError> {
        let json = decode_object(self.claims).map_err(|()| TokenError::BadClaims)?;
        read(&json).map_err(|_| TokenError::BadClaims)
    }
}

/// Decodes the text of an object. Refuses anything else, because derived deserializers would also accept an array, field by field.
fn decode_object(part: &str) -> Result<String, ()> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| ())?;
    // Checks all of it: a deserializer of bytes does not check text that it skips.
    let json = String::from_utf8(json).map_err(|_| ())?;
    if json.bytes().find(|byte| !byte.is_ascii_whitespace()) != Some(b'{') {
        return Err(());
    }
    Ok(json)
}

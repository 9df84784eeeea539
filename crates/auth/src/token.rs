//! The compact form of a JWT (RFC 7515, section 7.1), taken apart. Nothing here is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::TokenError;

/// A longer token is refused unread. It has to fit into a request's header, where servers stop at 8 KiB too.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A longer `kid` is in no key set.
const KID_BYTES_MAX: usize = 256;

/// A token in its three parts.
pub(crate) struct Parts<'a> {
    /// What is signed: header and claims, still encoded.
    pub message: &'a str,
    /// The claims, still encoded.
    claims: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
    /// The header.
    pub header: Header,
}

/// What of a header means something here. Keys that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) do not.
#[derive(Deserialize)]
pub(crate) struct Header {
    /// The algorithm that the token claims to be signed with.
    pub alg: String,
    /// The key that it claims to be signed with.
    pub kid: Option<String>,
    /// Extensions that must be understood. None is, so a token with any is refused (RFC 7515, section 4.1.11).
    crit: Option<IgnoredAny>,
}

impl<'a> Parts<'a> {
    /// Takes a token apart.
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

    /// Reads the claims. To be called once the signature has been verified.
    pub(crate) fn claims<T>(
        &self,
        read: impl FnOnce(&str) -> serde_json::Result<T>,
    ) -> Result<T, TokenError> {
        let json = decode_object(self.claims).map_err(|()| TokenError::BadClaims)?;
        read(&json).map_err(|_| TokenError::BadClaims)
    }
}

/// The text of an object. Only of one: derived readers would also take an array, field by field.
fn decode_object(part: &str) -> Result<String, ()> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| ())?;
    // All of it: a reader of bytes looks at no text that it skips.
    let json = String::from_utf8(json).map_err(|_| ())?;
    if json.bytes().find(|byte| !byte.is_ascii_whitespace()) != Some(b'{') {
        return Err(());
    }
    Ok(json)
}

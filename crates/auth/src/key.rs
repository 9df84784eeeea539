//! Keys that verify signatures. They are checked when they are read, so verifying a signature cannot fail for other reasons.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};

use crate::{Algorithm, SetupError};

/// Shortest secret for HS256 in bytes (RFC 7518, section 3.2). Tickets require the same.
pub const SECRET_BYTES_MIN: usize = 32;

/// Length of an RSA modulus in bytes: 2048 to 8192 bits (RFC 7518, section 3.3, and the limit of the cryptographic library).
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Key for one algorithm.
pub(crate) enum VerifyingKey {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerifyingKey {
    /// Creates a key from a shared secret, for HS256. `key` is the name of its setting.
    pub(crate) fn from_secret(secret: &[u8], key: &'static str) -> Result<VerifyingKey, SetupError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(SetupError::ShortSecret { key, bytes: secret.len() });
        }
        Ok(VerifyingKey::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// Reads a public key in PEM form. The error message continues a sentence that starts with the name of the file.
    pub(crate) fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<VerifyingKey, String> {
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
            return Err("contains a private key; give the public key, from `openssl pkey -pubout`".to_owned());
        }
        let key = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            Algorithm::HS256 => return Err("is a file, but HS256 uses a secret".to_owned()),
        };
        let key = key.ok().and_then(|key| match algorithm {
            Algorithm::RS256 => rsa_from_der(key.try_get_as_bytes().ok()?),
            Algorithm::ES256 => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.try_get_as_bytes().ok()?).ok()
            }
            Algorithm::EdDSA => ParsedPublicKey::new(&ED25519, key.try_get_as_bytes().ok()?).ok(),
            Algorithm::HS256 => None,
        });
        key.map(VerifyingKey::Public).ok_or_else(|| {
            format!("contains no public key for {algorithm}: expected {}", expected(algorithm))
        })
    }

    /// Reads a key from a key set; `None` if it is broken or cannot be used with this algorithm.
    pub(crate) fn from_jwk(algorithm: Algorithm, jwk: &Jwk) -> Option<VerifyingKey> {
        let common = &jwk.common;
        let for_signatures =
            common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        let for_verifying = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let for_algorithm = common.key_algorithm.is_none_or(|name| name.to_string() == algorithm.name());
        if !(for_signatures && for_verifying && for_algorithm) {
            return None;
        }
        let key = match (&jwk.algorithm, algorithm) {
            (AlgorithmParameters::RSA(rsa), Algorithm::RS256) => {
                rsa_from_components(&decode(&rsa.n)?, &decode(&rsa.e)?)
            }
            (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES256) if ec.curve == EllipticCurve::P256 => {
                p256_from_coordinates(&decode(&ec.x)?, &decode(&ec.y)?)
            }
            (AlgorithmParameters::OctetKeyPair(okp), Algorithm::EdDSA)
                if okp.curve == EllipticCurve::Ed25519 =>
            {
                ParsedPublicKey::new(&ED25519, decode(&okp.x)?).ok()
            }
            _ => None,
        };
        key.map(VerifyingKey::Public)
    }

    /// Whether `signature` is valid for `message`. With a secret, the time does not depend on where a wrong signature differs.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            VerifyingKey::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            VerifyingKey::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn rsa_from_der(der: &[u8]) -> Option<ParsedPublicKey> {
    let modulus_bytes = rsa::PublicKey::from_der(der).ok()?.modulus_len();
    if !RSA_MODULUS_BYTES.contains(&modulus_bytes) {
        return None;
    }
    ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).ok()
}

fn rsa_from_components(n: &[u8], e: &[u8]) -> Option<ParsedPublicKey> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    if !RSA_MODULUS_BYTES.contains(&n.len()) {
        return None;
    }
    RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
}

/// Creates a P-256 key from a point in the uncompressed form of SEC 1: 4, x, y.
fn p256_from_coordinates(x: &[u8], y: &[u8]) -> Option<ParsedPublicKey> {
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], x, y].concat()).ok()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Removes leading zero bytes. Some issuers write a modulus with the zero byte that ASN.1 requires and JWK forbids.
fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn expected(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "a secret",
        Algorithm::RS256 => "an RSA public key of 2048 to 8192 bits in PEM form",
        Algorithm::ES256 => "a public key on the curve P-256 in PEM form",
        Algorithm::EdDSA => "an Ed25519 public key in PEM form",
    }
}

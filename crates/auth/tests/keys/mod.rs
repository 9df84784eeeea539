//! Key pairs for tests, generated in each run. Tokens are signed with a JWT implementation other than the one under test.

#![allow(dead_code, reason = "each test file uses its part")]

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;
use starling_auth::Algorithm;

pub const NOW_MS: i64 = 1_800_000_000_000;
pub const NOW: i64 = NOW_MS / 1_000;

/// Key pair for one algorithm.
pub struct TestKey {
    pub algorithm: Algorithm,
    pub public_pem: String,
    pub private_pem: String,
}

impl TestKey {
    pub fn new(algorithm: Algorithm) -> TestKey {
        match algorithm {
            Algorithm::RS256 => TestKey::rsa(),
            Algorithm::ES256 => TestKey::ec(algorithm, &ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::EdDSA => TestKey::ed25519(),
            Algorithm::HS256 => panic!("HS256 has no key pair"),
        }
    }

    /// Key on a curve other than the one that ES256 requires.
    pub fn p384() -> TestKey {
        TestKey::ec(Algorithm::ES256, &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    /// Returns such a key as an entry of a key set.
    pub fn p384_jwk(kid: &str) -> Value {
        let key = EncodingKey::from_ec_pem(TestKey::p384().private_pem.as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES384).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        jwk.common.key_algorithm = None;
        serde_json::to_value(jwk).unwrap()
    }

    fn rsa() -> TestKey {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public = pair.public_key().as_der().unwrap();
        TestKey::from_der(Algorithm::RS256, private.as_ref(), public.as_ref())
    }

    fn ec(algorithm: Algorithm, curve: &'static EcdsaSigningAlgorithm) -> TestKey {
        let private = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, private.as_ref()).unwrap();
        let public = pair.public_key().as_der().unwrap();
        TestKey::from_der(algorithm, private.as_ref(), public.as_ref())
    }

    fn ed25519() -> TestKey {
        let private = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private.as_ref()).unwrap();
        let public = pair.public_key().as_der().unwrap();
        TestKey::from_der(Algorithm::EdDSA, private.as_ref(), public.as_ref())
    }

    fn from_der(algorithm: Algorithm, private: &[u8], public: &[u8]) -> TestKey {
        TestKey { algorithm, public_pem: pem("PUBLIC KEY", public), private_pem: pem("PRIVATE KEY", private) }
    }

    pub fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.library_algorithm());
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.encoding_key()).unwrap()
    }

    /// Returns the public key as an entry of a key set.
    pub fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.encoding_key(), self.library_algorithm()).unwrap();
        jwk.common.key_id = kid.map(str::to_owned);
        serde_json::to_value(jwk).unwrap()
    }

    fn encoding_key(&self) -> EncodingKey {
        let pem = self.private_pem.as_bytes();
        match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            _ => EncodingKey::from_ed_pem(pem),
        }
        .unwrap()
    }

    fn library_algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.name().parse().unwrap()
    }
}

/// Returns a token with any header and claims, signed with HMAC-SHA256.
pub fn hmac_token(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

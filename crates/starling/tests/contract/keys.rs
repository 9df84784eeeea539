//! Tokens signed by others: key files, key sets, and the configured algorithm.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::issuer::Issuer;
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::talk::{SOON, Talk};

const TICKET_SECRET: &str = "a secret that only signs tickets, and no tokens";

/// Issuer of tokens.
struct Signer {
    algorithm: &'static str,
    /// Public key as X.509 DER.
    public: Vec<u8>,
    sign: Box<dyn Fn(&[u8]) -> Vec<u8>>,
}

impl Signer {
    fn eddsa() -> (Self, Value) {
        let key = Ed25519KeyPair::generate().unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref().to_vec();
        let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let signer =
            Self { algorithm: "EdDSA", public, sign: Box::new(move |text| key.sign(text).as_ref().to_vec()) };
        (signer, json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x}))
    }

    fn es256() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref().to_vec();
        let sign = move |text: &[u8]| key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
        Self { algorithm: "ES256", public, sign: Box::new(sign) }
    }

    fn rs256() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap().as_ref().to_vec();
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        Self { algorithm: "RS256", public, sign: Box::new(sign) }
    }

    fn pem(&self) -> String {
        let text = STANDARD.encode(&self.public);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn token(&self, token: Token) -> String {
        token.header("alg", self.algorithm).sign_with(&*self.sign)
    }
}

/// Starts a node without a token secret.
fn node(algorithm: &str) -> NodeBuilder {
    Node::builder()
        .secret("")
        .env("STARLING_TICKET_SECRET", TICKET_SECRET)
        .env("STARLING_JWT_ALGORITHM", algorithm)
}

async fn connect(node: &Node, token: &str) -> Result<Client, starling_testkit::client::Failure> {
    Client::connect(&node.ws_url(), token, Encoding::Json).await
}

async fn assert_unauthorized(node: &Node, token: &str, what: &str) {
    assert_eq!(connect(node, token).await.unwrap_err().code(), Some("unauthorized"), "{what}");
}

#[tokio::test]
async fn a_key_file_vouches_for_tokens_of_its_algorithm_and_for_no_others() {
    for signer in [Signer::eddsa().0, Signer::es256(), Signer::rs256()] {
        let algorithm = signer.algorithm;
        let node = node(algorithm)
            .file("key.pem", &signer.pem())
            .env("STARLING_JWT_PUBLIC_KEY_FILE", "key.pem")
            .start()
            .await
            .unwrap();
        let ada = connect(&node, &signer.token(Token::of("ada"))).await.unwrap();
        assert_eq!(ada.welcome()["user"], "ada", "{algorithm}");
        // A session can be resumed by its ticket, which the node signs.
        let resume = ada.resumption();
        ada.cut();
        let token = signer.token(Token::of("ada"));
        let back = Client::resume(&node.ws_url(), &token, Encoding::Json, resume).await.unwrap();
        assert_eq!(back.welcome()["resumed"], true);
        // Neither the public key nor the ticket secret is accepted as a token secret, whatever the header says.
        assert_unauthorized(&node, &Token::of("ada").sign(&signer.pem()), "HS256 by the public key").await;
        let disguised = Token::of("ada").header("alg", algorithm).sign(&signer.pem());
        assert_unauthorized(&node, &disguised, "HMAC under the name of the algorithm").await;
        assert_unauthorized(&node, &Token::of("ada").sign(TICKET_SECRET), "HS256 by the ticket secret").await;
        let own = Signer::eddsa().0;
        assert_unauthorized(&node, &own.token(Token::of("ada")), "somebody else's key").await;
        assert_unauthorized(&node, &Token::of("ada").unsigned(), "unsigned").await;
    }
}

#[tokio::test]
async fn a_key_set_may_change_while_the_node_runs() {
    let entry = |kid: &str, mut key: Value| {
        key["kid"] = json!(kid);
        key
    };
    let (first, first_key) = Signer::eddsa();
    let (second, second_key) = Signer::eddsa();
    let issuer = Issuer::start(json!({"keys": [entry("first", first_key.clone())]})).await.unwrap();
    let node = node("EdDSA").env("STARLING_JWT_JWKS_URL", &issuer.url()).start().await.unwrap();
    let by = |signer: &Signer, kid: &str| signer.token(Token::of("ada").header("kid", kid));
    let mut ada = connect(&node, &by(&first, "first")).await.unwrap();
    assert_unauthorized(&node, &by(&second, "first"), "another's signature under a known key's name").await;
    issuer.serve(json!({"keys": [entry("first", first_key), entry("second", second_key)]}));
    // The set is not fetched again for each unknown name, but only from time to time.
    wait::until_true(SOON, "the new key", async || Ok(connect(&node, &by(&second, "second")).await.is_ok()))
        .await
        .unwrap();
    ada.ask("refresh", json!({"token": by(&second, "second")})).await;
    assert_eq!(ada.refused("refresh", json!({"token": by(&second, "third")})).await, "unauthorized");
}

#[tokio::test]
async fn a_node_is_not_ready_before_it_has_seen_a_key() {
    let (signer, mut key) = Signer::eddsa();
    key["kid"] = json!("first");
    let issuer = Issuer::start(json!("no key set yet")).await.unwrap();
    let node =
        node("EdDSA").env("STARLING_JWT_JWKS_URL", &issuer.url()).without_waiting().start().await.unwrap();
    let answer = wait::until(SOON, "an answer", async || Ok(node.get("/ready").await.ok())).await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json().unwrap(), json!({"ready": false, "reasons": ["no_keys"]}));
    issuer.serve(json!({"keys": [key]}));
    node.ready().await.unwrap();
    connect(&node, &signer.token(Token::of("ada").header("kid", "first"))).await.unwrap();
}

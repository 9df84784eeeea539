//! Key sets behind a URL: fetching, sharing, rotation, and outages.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may panic, and reads well with `json!` in place"
)]

mod keys;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keys::{NOW, NOW_MS, TestKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use starling_auth::{Algorithm, KeySource, TokenError, Verifier, VerifierOptions};
use starling_trust::install_provider;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn each_algorithm_takes_its_keys_out_of_a_mixed_set() {
    let pairs = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(TestKey::new);
    let set =
        json!({"keys": pairs.iter().map(|pair| pair.jwk(Some(pair.algorithm.name()))).collect::<Vec<_>>()});
    let issuer = Issuer::start(set).await;
    for pair in &pairs {
        let verifier = issuer.verifier(pair.algorithm);
        let token = pair.sign(Some(pair.algorithm.name()), &claims());
        assert_eq!(who(&verifier, &token).await.as_deref(), Ok("ann"));
        assert!(verifier.verify_now(&token, NOW_MS).unwrap().is_ok(), "without waiting, from then on");
        let nameless = pair.sign(None, &claims());
        assert_eq!(
            who(&verifier, &nameless).await.as_deref(),
            Ok("ann"),
            "the only key of its kind needs no name"
        );
    }
}

#[tokio::test]
async fn rotation_brings_the_new_key_at_once_and_takes_the_old_one_away() {
    let (old, new) = (TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    let issuer = Issuer::start(json!({"keys": [old.jwk(Some("old"))]})).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    let old_token = old.sign(Some("old"), &claims());
    assert_eq!(who(&verifier, &old_token).await.as_deref(), Ok("ann"));

    issuer.serve(json!({"keys": [old.jwk(Some("old")), new.jwk(Some("new"))]}));
    let new_token = new.sign(Some("new"), &claims());
    assert_eq!(verifier.verify_now(&new_token, NOW_MS), None, "the key has to be fetched first");
    assert_eq!(who(&verifier, &new_token).await.as_deref(), Ok("ann"));
    assert_eq!(who(&verifier, &old_token).await.as_deref(), Ok("ann"), "both are good meanwhile");

    issuer.serve(json!({"keys": [new.jwk(Some("new"))]}));
    assert_eq!(who(&verifier, &old.sign(Some("unknown"), &claims())).await, Err(TokenError::UnknownKey));
    assert_eq!(who(&verifier, &old_token).await, Err(TokenError::UnknownKey), "nor is it remembered as good");
    assert_eq!(who(&verifier, &new_token).await.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn the_set_is_fetched_again_by_itself() {
    let (old, new) = (TestKey::new(Algorithm::EdDSA), TestKey::new(Algorithm::EdDSA));
    let issuer = Issuer::start(json!({"keys": [old.jwk(Some("old"))]})).await;
    let options = VerifierOptions { jwks_refresh: Duration::from_millis(20), ..VerifierOptions::default() };
    let verifier = issuer.verifier_with(Algorithm::EdDSA, options);
    assert_eq!(who(&verifier, &old.sign(Some("old"), &claims())).await.as_deref(), Ok("ann"));
    issuer.serve(json!({"keys": [new.jwk(Some("new"))]}));
    let token = new.sign(Some("new"), &claims());
    eventually("the new key is known without anybody asking", || {
        matches!(verifier.verify_now(&token, NOW_MS), Some(Ok(_)))
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_is_down_keeps_the_known_keys() {
    let pair = TestKey::new(Algorithm::ES256);
    let issuer = Issuer::start(json!({"keys": [pair.jwk(Some("one"))]})).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    assert_eq!(who(&verifier, &pair.sign(Some("one"), &claims())).await.as_deref(), Ok("ann"));
    for answer in [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Body("no key set".into()),
        Answer::Body(format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(300_000))),
    ] {
        issuer.answer(answer);
        assert_eq!(
            who(&verifier, &pair.sign(Some("two"), &claims())).await,
            Err(TokenError::KeysUnavailable),
            "nobody can say whether the key is good"
        );
        let again = json!({"sub": "ann", "exp": NOW + 60, "nonce": issuer.fetches()});
        assert_eq!(who(&verifier, &pair.sign(Some("one"), &again)).await.as_deref(), Ok("ann"));
    }
}

#[tokio::test]
async fn a_node_starts_without_its_issuer_and_recovers() {
    let pair = TestKey::new(Algorithm::ES256);
    let issuer = Issuer::start(Value::Null).await;
    issuer.answer(Answer::Status(StatusCode::SERVICE_UNAVAILABLE));
    let verifier = issuer.verifier(Algorithm::ES256);
    let token = pair.sign(Some("one"), &claims());
    let error = who(&verifier, &token).await.unwrap_err();
    assert!(error.is_temporary());
    assert!(!verifier.has_keys());
    issuer.serve(json!({"keys": [pair.jwk(Some("one"))]}));
    eventually("the failed fetch is tried again", || verifier.has_keys()).await;
    assert_eq!(who(&verifier, &token).await.as_deref(), Ok("ann"));
}

#[tokio::test]
async fn invented_keys_cause_few_fetches_and_many_waiters_share_one() {
    let pair = TestKey::new(Algorithm::ES256);
    let issuer = Issuer::start(json!({"keys": [pair.jwk(Some("one"))]})).await;
    let verifier = Arc::new(issuer.verifier(Algorithm::ES256));
    assert_eq!(who(&verifier, &pair.sign(Some("one"), &claims())).await.as_deref(), Ok("ann"));
    let before = issuer.fetches();
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let verifier = Arc::clone(&verifier);
            let token = pair.sign(Some(&format!("invented-{number}")), &claims());
            tokio::spawn(async move { who(&verifier, &token).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Err(TokenError::UnknownKey));
    }
    for number in 0..100 {
        let token = pair.sign(Some(&format!("invented-too-{number}")), &claims());
        assert_eq!(who(&verifier, &token).await, Err(TokenError::UnknownKey));
    }
    let caused = issuer.fetches() - before;
    assert!((1..=10).contains(&caused), "{caused} fetches");
}

#[tokio::test]
async fn keys_of_no_use_are_left_out() {
    let pair = TestKey::new(Algorithm::ES256);
    let with = |field: &str, value: Value, kid: &str| {
        let mut jwk = pair.jwk(Some(kid));
        jwk[field] = value;
        jwk
    };
    let keys = json!([
        with("use", json!("enc"), "for-encryption"),
        with("alg", json!("ES384"), "other-algorithm"),
        with("key_ops", json!(["sign"]), "for-signing"),
        with("crv", json!("secp256k1"), "unknown-curve"),
        with("x", json!("AAAA"), "broken-point"),
        with("kty", json!("unheard-of"), "unknown-kind"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        TestKey::p384_jwk("p384"),
        TestKey::new(Algorithm::EdDSA).jwk(Some("ed")),
        17,
        with("use", json!("sig"), "good"),
    ]);
    let issuer = Issuer::start(json!({"keys": keys})).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    assert_eq!(who(&verifier, &pair.sign(Some("good"), &claims())).await.as_deref(), Ok("ann"));
    for kid in [
        "for-encryption",
        "other-algorithm",
        "for-signing",
        "unknown-curve",
        "broken-point",
        "unknown-kind",
        "p384",
    ] {
        let result = who(&verifier, &pair.sign(Some(kid), &claims())).await;
        assert_eq!(result, Err(TokenError::UnknownKey), "{kid}");
    }
    let forged = keys::hmac_token(r#"{"alg":"HS256","kid":"secret"}"#, &claims().to_string(), b"secret");
    assert_eq!(who(&verifier, &forged).await, Err(TokenError::WrongAlgorithm));
    let forged = keys::hmac_token(r#"{"alg":"ES256","kid":"secret"}"#, &claims().to_string(), b"secret");
    assert_eq!(who(&verifier, &forged).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn a_token_without_a_key_name_is_held_against_all_keys_where_they_are_few() {
    let keys: Vec<TestKey> = (0..5).map(|_| TestKey::new(Algorithm::ES256)).collect();
    let jwks = |count: usize| {
        let jwks: Vec<Value> =
            keys[..count].iter().enumerate().map(|(n, key)| key.jwk(Some(&format!("k{n}")))).collect();
        json!({"keys": jwks})
    };
    let issuer = Issuer::start(jwks(4)).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    for (n, key) in keys[..4].iter().enumerate() {
        assert_eq!(who(&verifier, &key.sign(Some(&format!("k{n}")), &claims())).await.as_deref(), Ok("ann"));
        assert_eq!(who(&verifier, &key.sign(None, &claims())).await.as_deref(), Ok("ann"), "key {n}");
    }
    assert_eq!(who(&verifier, &keys[4].sign(None, &claims())).await, Err(TokenError::BadSignature));
    assert_eq!(who(&verifier, &keys[0].sign(Some("k1"), &claims())).await, Err(TokenError::BadSignature));

    let issuer = Issuer::start(jwks(5)).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    assert_eq!(who(&verifier, &keys[4].sign(Some("k4"), &claims())).await.as_deref(), Ok("ann"));
    assert_eq!(who(&verifier, &keys[4].sign(None, &claims())).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn of_two_keys_with_one_name_either_will_do() {
    let (one, two) = (TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    let issuer = Issuer::start(json!({"keys": [one.jwk(Some("k")), two.jwk(Some("k"))]})).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    for key in [&one, &two] {
        assert_eq!(who(&verifier, &key.sign(Some("k"), &claims())).await.as_deref(), Ok("ann"));
    }
}

#[tokio::test]
async fn a_key_set_may_hold_hundreds_of_keys_and_those_of_other_kinds_take_no_place() {
    let (first, last) = (TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    let mut keys = vec![first.jwk(Some("first"))];
    // Unusable, since it is for another algorithm.
    keys.extend((0..600).map(|n| json!({"kty": "oct", "kid": format!("o{n}"), "k": "c2VjcmV0"})));
    keys.extend((0..400).map(|n| first.jwk(Some(&format!("k{n}")))));
    keys.push(last.jwk(Some("last")));
    let issuer = Issuer::start(json!({"keys": keys})).await;
    let verifier = issuer.verifier(Algorithm::ES256);
    for (key, kid) in [(&first, "first"), (&first, "k63"), (&first, "k399"), (&last, "last")] {
        assert_eq!(who(&verifier, &key.sign(Some(kid), &claims())).await.as_deref(), Ok("ann"), "{kid}");
    }
}

/// Serves a key set on its own port.
struct Issuer {
    address: SocketAddr,
    state: Arc<Mutex<Served>>,
    server: JoinHandle<()>,
}

struct Served {
    answer: Answer,
    fetches: usize,
}

#[derive(Clone)]
enum Answer {
    Status(StatusCode),
    Body(String),
}

impl Issuer {
    async fn start(set: Value) -> Issuer {
        install_provider();
        let state = Arc::new(Mutex::new(Served { answer: Answer::Body(set.to_string()), fetches: 0 }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/keys", get(serve)).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Issuer { address, state, server }
    }

    fn serve(&self, set: Value) {
        self.answer(Answer::Body(set.to_string()));
    }

    fn answer(&self, answer: Answer) {
        self.state.lock().answer = answer;
    }

    fn fetches(&self) -> usize {
        self.state.lock().fetches
    }

    fn verifier(&self, algorithm: Algorithm) -> Verifier {
        self.verifier_with(algorithm, VerifierOptions::default())
    }

    fn verifier_with(&self, algorithm: Algorithm, options: VerifierOptions) -> Verifier {
        let url = format!("http://{}/keys", self.address);
        Verifier::new(algorithm, KeySource::Jwks { url }, options).unwrap()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State(state): State<Arc<Mutex<Served>>>) -> Response {
    let mut served = state.lock();
    served.fetches += 1;
    match served.answer.clone() {
        Answer::Status(status) => status.into_response(),
        Answer::Body(body) => body.into_response(),
    }
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW + 60})
}

async fn who(verifier: &Verifier, token: &str) -> Result<String, TokenError> {
    let verified = tokio::time::timeout(DEADLINE, verifier.verify(token, NOW_MS)).await.expect("in time");
    verified.map(|identity| identity.user.to_string())
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect(what);
}

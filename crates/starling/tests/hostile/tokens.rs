//! Forged tokens: over HTTP, in a handshake, in `connect` and in `refresh`.
//!
//! `contract::connect` tests simple bad tokens, `contract::keys` the confusion of public keys with secrets, and the tests of
//! `starling-auth` each single rule. These tests try tricks at every entry.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::http::Request;
use starling_testkit::issuer::Issuer;
use starling_testkit::node::{Node, SECRET};
use starling_testkit::token::Token;

use crate::witness::Witness;
use crate::{Memory, SOON, TURN, mib};

/// Tokens of `mallory` that must be refused, each with its trick.
fn tricks() -> Vec<(String, String)> {
    let mut tricks: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| tricks.push((what.to_owned(), token));
    let mallory = || Token::of("mallory");
    for algorithm in
        ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "hs256", "HS256 ", "none\u{0}"]
    {
        let token = mallory().header("alg", algorithm);
        add(&format!("alg {algorithm:?}, unsigned"), token.sign_with(|_| Vec::new()));
        add(&format!("alg {algorithm:?}, signed"), token.sign(SECRET));
    }
    for algorithm in [json!(null), json!(["HS256"]), json!(256), json!({"alg": "HS256"}), json!(true)] {
        add(&format!("alg {algorithm}"), mallory().header("alg", algorithm).sign(SECRET));
    }
    for crit in [json!(["exp"]), json!([]), json!("b64"), json!(["b64"]), json!({"x": 1})] {
        add(&format!("crit {crit}"), mallory().header("crit", crit).header("b64", false).sign(SECRET));
    }
    for (name, value) in [
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("x' UNION SELECT 'secret")),
        ("jku", json!("https://evil.example/jwks.json")),
        ("jwk", json!({"kty": "oct", "k": ""})),
        ("x5u", json!("https://evil.example/cert")),
    ] {
        // Keys that the token contains or points to.
        let token = mallory().header(name, value.clone());
        add(&format!("{name} {value}"), token.sign("a secret that the attacker has chosen"));
        add(&format!("{name} {value}, with an empty secret"), token.sign(""));
    }
    let far = json!(4_000_000_000_u64);
    for exp in [
        json!(0),
        json!(-1),
        json!(-1e300),
        json!("4000000000"),
        json!(null),
        json!(true),
        json!([4_000_000_000_u64]),
        json!({"$gt": 0}),
        json!(i64::MIN),
    ] {
        add(&format!("exp {exp}"), mallory().claim("exp", exp).sign(SECRET));
    }
    for nbf in [far.clone(), json!(1e300), json!("0"), json!([])] {
        add(&format!("nbf {nbf}"), mallory().claim("nbf", nbf).sign(SECRET));
    }
    for sub in [json!("ada\u{0}"), json!("ada\r\nx: y"), json!(""), json!(1), json!(["ada"])] {
        add(&format!("sub {sub}"), mallory().claim("sub", sub).sign(SECRET));
    }
    for tenant in
        [json!(""), json!(".."), json!("default/../other"), json!("a:b/c"), json!(["default"]), json!(0)]
    {
        add(&format!("tenant {tenant}"), mallory().claim("tenant", tenant).sign(SECRET));
    }
    add("scope as a list of anything", mallory().claim("scope", json!(["admin", {}])).sign(SECRET));
    add("scope as an object", mallory().claim("scope", json!({"admin": true})).sign(SECRET));
    for (what, claims) in [
        ("two subjects", r#"{"sub":"mallory","sub":"root","exp":4000000000}"#),
        ("two ends", r#"{"sub":"mallory","exp":1,"exp":4000000000}"#),
        ("two scopes", r#"{"sub":"mallory","scope":"","scope":"admin","exp":4000000000}"#),
        ("an end beyond all numbers", r#"{"sub":"mallory","exp":1e999}"#),
        ("no number", r#"{"sub":"mallory","exp":NaN}"#),
        ("a list", r#"["mallory","default","",4000000000]"#),
        ("two objects", r#"{"sub":"mallory","exp":4000000000}{}"#),
        ("nothing", ""),
    ] {
        add(what, signed(r#"{"alg":"HS256"}"#, claims));
    }
    add("two algorithms", signed(r#"{"alg":"none","alg":"HS256"}"#, r#"{"sub":"mallory","exp":4000000000}"#));
    let good = mallory().sign(SECRET);
    let parts: Vec<&str> = good.split('.').collect();
    add("four parts", format!("{good}.{}", parts[2]));
    add("five parts, as an encrypted one has", format!("{good}.a.b"));
    add("no signature", format!("{}.{}.", parts[0], parts[1]));
    add("two parts", format!("{}.{}", parts[0], parts[1]));
    add("padding", format!("{}=.{}=.{}=", parts[0], parts[1], parts[2]));
    add("half a signature", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..20]));
    add("more than a signature", format!("{good}AAAA"));
    add("8 KiB and more", mallory().claim("x", "y".repeat(8 << 10)).sign(SECRET));
    tricks
}

fn signed(header: &str, claims: &str) -> String {
    // The test kit only makes tokens from objects; these are not objects.
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_with_a_token_works_on_any_way_in() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let mut mallory = Client::connect(&node.ws_url(), &node.token("mallory"), Encoding::Json).await.unwrap();
    mallory.set_patience(SOON);
    let memory = Memory::of(&node);
    let tricks = tricks();
    for (what, token) in &tricks {
        let failure = Client::connect(&node.ws_url(), token, Encoding::Json).await.expect_err(what);
        assert_eq!(failure.code(), Some("unauthorized"), "{what}");
        let refresh = mallory.command("refresh", json!({ "token": token })).await;
        assert_eq!(refresh.expect_err(what).code(), Some("unauthorized"), "{what}");
        // A header must not contain line ends.
        let url = format!("{}/v1/conversations", node.http_url());
        let answer = Request::new("GET", &url).bearer(token).send().await.unwrap();
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        match Upgrade::to(&node.ws_url()).bearer(token).open().await {
            Err(Failure::NotUpgraded { status, .. }) => assert_eq!(status, 401, "{what}"),
            other => panic!("{what}: {:?}", other.err().map(|error| error.to_string())),
        }
    }
    println!("{} tricks, four ways in", tricks.len());
    // The response must not reveal which check a forged token failed.
    memory.grew_at_most(&node, mib(16), "token tricks");
    assert!(!node.log().contains(SECRET));
    mallory.command("ping", json!({})).await.unwrap();
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_somebody_else_by_a_strange_name() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let long = "a".repeat(101);
    // Each is valid at its issuer, and some imitate other users here.
    let subjects = [
        "ada",
        "ADA",
        " ada",
        "ada ",
        "../ada",
        "./ada",
        "ada/",
        "ada|",
        "ada%7C",
        "ada..7C",
        "ada...7C",
        "ada...2E7C",
        "a..64a",
        "a\\da",
        ".",
        "..",
        "...",
        "..2E",
        "...2E",
        "auth0|1",
        "auth0..7C1",
        "e\u{301}",
        "\u{e9}",
        "e..CC..81",
        "\u{430}da",
        "ada\u{200b}",
        "..sha256:",
        "..sha256:ab",
        &long,
    ];
    let mut names = std::collections::HashMap::new();
    for subject in subjects {
        let token = Token::of(subject).sign(SECRET);
        let client = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
        let name = client.welcome()["user"].as_str().unwrap().to_owned();
        assert!(starling_model::is_name(&name), "{subject:?} is called {name:?}");
        if let Some(other) = names.insert(name.clone(), subject) {
            panic!("{subject:?} and {other:?} are both called {name}");
        }
    }
    // A user whose id equals somebody else's escaped name gets a different name.
    for (name, subject) in &names {
        let token = Token::of(name).sign(SECRET);
        let client = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
        let found = client.welcome()["user"].as_str().unwrap().to_owned();
        assert!(name == subject || found != *name, "{subject:?} is called {name}, and so is {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_100_kb_is_refused_unread() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let token = Token::of("mallory").claim("x", "y".repeat(75_000)).sign(SECRET);
    assert!(token.len() > 100_000);
    for _ in 0..20 {
        let failure = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap_err();
        assert_eq!(failure.code(), Some("unauthorized"));
        // A head of that size is refused anyway, wherever the token is in it.
        let head =
            format!("GET /v1/conversations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = crate::wire::exchange(&node, head).await;
        assert!(answer.is_empty() || [431, 400].contains(&crate::wire::status(&answer)), "{answer}");
    }
    memory.grew_at_most(&node, mib(16), "tokens of 100 KB");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_odd_and_harmless_are_taken_as_the_rules_say() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    // `iat` does not affect validity (RFC 7519, section 4.1.6); fractions of seconds are valid; an expiry in a million years becomes the
    // latest time that can be expressed.
    for (name, value) in [
        ("iat", json!(4_000_000_000_u64)),
        ("iat", json!("yesterday")),
        ("exp", json!(4_000_000_000.75)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(-5)),
    ] {
        let token = Token::of("ada").claim(name, value.clone()).sign(SECRET);
        let mut ada = Client::connect(&node.ws_url(), &token, Encoding::Json).await.expect(name);
        let ends = ada.welcome()["expires_at"].as_str().unwrap().to_owned();
        assert!(ends.as_str() <= "9999-12-31T23:59:59.999Z", "{name} {value}: {ends}");
        ada.command("ping", json!({})).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_set_publishes_signs_no_token_and_names_of_keys_lead_nowhere() {
    let _turn = TURN.lock().await;
    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&key).as_ref().to_vec();
    let x = URL_SAFE_NO_PAD.encode(&public);
    let set = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "good", "x": x},
        // Secrets and a weak key that an issuer has published by mistake.
        {"kty": "oct", "kid": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)},
        {"kty": "RSA", "kid": "weak", "alg": "RS256", "n": "AQAB", "e": "AQAB"},
    ]});
    let issuer = Issuer::start(set.clone()).await.unwrap();
    let node = Node::builder()
        .secret("")
        .env("STARLING_TICKET_SECRET", "a secret that only signs tickets, and no tokens")
        .env("STARLING_JWT_ALGORITHM", "EdDSA")
        .env("STARLING_JWT_JWKS_URL", &issuer.url())
        .start()
        .await
        .unwrap();
    let sign = |token: Token| token.header("alg", "EdDSA").sign_with(|text| key.sign(text).as_ref().to_vec());
    let good = sign(Token::of("ada").header("kid", "good"));
    let mut ada = Client::connect(&node.ws_url(), &good, Encoding::Json).await.unwrap();
    let raw = String::from_utf8_lossy(&public).into_owned();
    let mut tricks = vec![
        ("HS256 by the published secret", Token::of("ada").header("kid", "oct").sign(SECRET)),
        ("HS256 by the published key", Token::of("ada").header("kid", "good").sign(&x)),
        ("HS256 by the key's bytes", Token::of("ada").header("kid", "good").sign(&raw)),
        ("HS256 by the set's text", Token::of("ada").header("kid", "good").sign(&set.to_string())),
        ("HS256 by nothing", Token::of("ada").header("kid", "good").sign("")),
        ("unsigned", Token::of("ada").header("kid", "good").unsigned()),
        ("EdDSA under HMAC", Token::of("ada").header("kid", "good").header("alg", "EdDSA").sign(&x)),
        ("EdDSA by the secret's name", sign(Token::of("ada").header("kid", "oct"))),
        (
            "a signature of zeros",
            Token::of("ada").header("alg", "EdDSA").header("kid", "good").sign_with(|_| vec![0; 64]),
        ),
    ];
    for kid in ["../../etc/passwd", "good\u{0}", "http://127.0.0.1:1/", "", " good"] {
        tricks.push(("a key by a strange name", sign(Token::of("ada").header("kid", kid))));
    }
    tricks.push(("a key of 100 KB of name", sign(Token::of("ada").header("kid", "k".repeat(5_000)))));
    tricks.push(("a key that is no text", sign(Token::of("ada").header("kid", json!({"a": 1})))));
    for (what, token) in tricks {
        let failure = Client::connect(&node.ws_url(), &token, Encoding::Json).await.expect_err(what);
        assert_eq!(failure.code(), Some("unauthorized"), "{what}");
    }
    ada.command("ping", json!({})).await.unwrap();
    assert!(Client::connect(&node.ws_url(), &good, Encoding::Json).await.is_ok());
}

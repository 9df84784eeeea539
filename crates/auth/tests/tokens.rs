//! Which tokens are accepted, and the errors for the others.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may panic, and reads well with `json!` in place"
)]

mod keys;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keys::{NOW, NOW_MS, TestKey, hmac_token};
use proptest::prelude::*;
use serde_json::{Value, json};
use starling_auth::{
    Algorithm, ClaimNames, Identity, KeySource, LEEWAY_MS, TOKEN_BYTES_MAX, TokenError, Verifier,
    VerifierOptions, sign_hs256,
};
use tempfile::TempDir;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const PUBLIC_KEY_ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

#[test]
fn a_signed_token_says_who_one_is() {
    let token = sign_hs256(SECRET, "ann", "acme", "admin subscribe:news", NOW_MS, 60);
    let identity = verify(&token).unwrap();
    assert_eq!((&*identity.user, &*identity.tenant), ("ann", "acme"));
    assert!(identity.scopes.is_admin());
    assert_eq!(identity.expires_at_ms, NOW_MS + 60_000);
}

#[test]
fn tenant_and_scope_have_defaults() {
    let identity = verify(&claims(json!({"sub": "ann", "exp": NOW + 60}))).unwrap();
    assert_eq!(&*identity.tenant, "default");
    assert!(!identity.scopes.may_create());
}

#[test]
fn every_public_key_algorithm_verifies_its_own_tokens_and_no_others() {
    let pairs = PUBLIC_KEY_ALGORITHMS.map(TestKey::new);
    let strangers = PUBLIC_KEY_ALGORITHMS.map(TestKey::new);
    let good = json!({"sub": "ann", "exp": NOW + 60});
    for (pair, stranger) in pairs.iter().zip(&strangers) {
        let (_folder, path) = write(&pair.public_pem);
        let verifier = Verifier::new(pair.algorithm, KeySource::PublicKeyFile(path), options()).unwrap();
        let verify = |token: &str| verifier.verify_now(token, NOW_MS).unwrap().map(|identity| identity.user);
        assert_eq!(verify(&pair.sign(None, &good)).as_deref(), Ok("ann"), "{}", pair.algorithm);
        assert_eq!(verify(&pair.sign(Some("any"), &good)).as_deref(), Ok("ann"), "a kid means nothing here");
        assert_eq!(verify(&stranger.sign(None, &good)), Err(TokenError::BadSignature));
        for other in pairs.iter().filter(|other| other.algorithm != pair.algorithm) {
            assert_eq!(verify(&other.sign(None, &good)), Err(TokenError::WrongAlgorithm));
        }
        let token = pair.sign(None, &good);
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(verify(&format!("{message}.")), Err(TokenError::BadSignature));
        let swapped = if signature.starts_with('A') { "B" } else { "A" };
        assert_eq!(verify(&format!("{message}.{swapped}{}", &signature[1..])), Err(TokenError::BadSignature));
    }
}

#[test]
fn a_public_key_does_not_serve_as_a_secret() {
    for pair in PUBLIC_KEY_ALGORITHMS.map(TestKey::new) {
        let (_folder, path) = write(&pair.public_pem);
        let verifier = Verifier::new(pair.algorithm, KeySource::PublicKeyFile(path), options()).unwrap();
        let body = json!({"sub": "ann", "exp": NOW + 60}).to_string();
        let forged = hmac_token(HS256, &body, pair.public_pem.as_bytes());
        assert_eq!(verifier.verify_now(&forged, NOW_MS), Some(Err(TokenError::WrongAlgorithm)));
        let header = format!(r#"{{"alg":"{}"}}"#, pair.algorithm);
        let forged = hmac_token(&header, &body, pair.public_pem.as_bytes());
        assert_eq!(verifier.verify_now(&forged, NOW_MS), Some(Err(TokenError::BadSignature)));
    }
}

#[test]
fn the_algorithm_is_never_taken_from_the_token() {
    let body = json!({"sub": "ann", "exp": NOW + 60}).to_string();
    for name in ["none", "None", "HS384", "hs256", "", "RS256"] {
        let header = json!({"alg": name}).to_string();
        assert_eq!(verify(&hmac_token(&header, &body, SECRET)), Err(TokenError::WrongAlgorithm), "{name}");
    }
    let signed = hmac_token(r#"{"alg":"none"}"#, &body, SECRET);
    let (message, _) = signed.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{message}.")), Err(TokenError::WrongAlgorithm));
    for header in ["{}", r#"{"alg":null}"#, r#"{"alg":5}"#, r#"["HS256",null,null]"#, "HS256", ""] {
        assert_eq!(verify(&hmac_token(header, &body, SECRET)), Err(TokenError::Malformed), "{header}");
    }
}

#[test]
fn headers_can_bring_neither_keys_nor_extensions() {
    let body = json!({"sub": "ann", "exp": NOW + 60}).to_string();
    let own_key =
        json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}, "jku": "http://127.0.0.1/"}).to_string();
    assert_eq!(verify(&hmac_token(&own_key, &body, b"AAAA")), Err(TokenError::BadSignature));
    let critical = json!({"alg": "HS256", "crit": ["b64"], "b64": false}).to_string();
    assert_eq!(verify(&hmac_token(&critical, &body, SECRET)), Err(TokenError::Malformed));
    let path = json!({"alg": "HS256", "kid": "../../dev/null"}).to_string();
    assert_eq!(verify(&hmac_token(&path, &body, b"")), Err(TokenError::BadSignature));
    let long = json!({"alg": "HS256", "kid": "k".repeat(300)}).to_string();
    assert_eq!(verify(&hmac_token(&long, &body, SECRET)), Err(TokenError::UnknownKey));
}

#[test]
fn tokens_end_exactly_at_exp() {
    let token = claims(json!({"sub": "ann", "exp": NOW + 10}));
    let verifier = verifier();
    let at = |now_ms| verifier.verify_now(&token, now_ms).unwrap().map(|identity| identity.expires_at_ms);
    assert_eq!(at(NOW_MS + 9_999), Ok(NOW_MS + 10_000));
    assert_eq!(
        at(NOW_MS + 10_000),
        Err(TokenError::Expired),
        "held against the clock when it was seen before, too"
    );
    assert_eq!(verify(&claims(json!({"sub": "ann", "exp": NOW - 1}))), Err(TokenError::Expired));
    assert_eq!(verify(&claims(json!({"sub": "ann", "exp": -1e300}))), Err(TokenError::Expired));
}

#[test]
fn times_may_have_fractions_and_be_far_away() {
    let expiry = |exp: Value| {
        verify(&claims(json!({"sub": "ann", "exp": exp}))).map(|identity| identity.expires_at_ms)
    };
    assert_eq!(expiry(json!(NOW as f64 + 0.25)), Ok(NOW_MS + 250));
    assert_eq!(expiry(json!(1e300)), Ok(253_402_300_799_999));
    assert_eq!(expiry(json!(u64::MAX)), Ok(253_402_300_799_999));
}

#[test]
fn nbf_is_honoured_with_leeway() {
    let from = |nbf: f64| verify(&claims(json!({"sub": "ann", "exp": NOW + 60, "nbf": nbf}))).map(|_| ());
    assert_eq!(from(NOW as f64 - 60.0), Ok(()));
    assert_eq!(from((NOW_MS + LEEWAY_MS) as f64 / 1_000.0), Ok(()));
    assert_eq!(from((NOW_MS + LEEWAY_MS + 1) as f64 / 1_000.0), Err(TokenError::NotYetValid));
}

#[test]
fn claims_that_are_missing_or_wrong_are_named() {
    let exp = NOW + 60;
    for (body, error) in [
        (json!({"sub": "ann"}), TokenError::NoExpiry),
        (json!({"sub": "ann", "exp": null}), TokenError::NoExpiry),
        (json!({"exp": exp}), TokenError::NoSubject),
        (json!({"sub": "", "exp": exp}), TokenError::BadSubject),
        (json!({"sub": null, "exp": exp}), TokenError::NoSubject),
        (json!({"sub": "ann\u{0}", "exp": exp}), TokenError::BadSubject),
        (json!({"sub": "ann\r\nx: y", "exp": exp}), TokenError::BadSubject),
        (json!({"sub": "ann", "exp": exp, "tenant": ""}), TokenError::BadTenant),
        (json!({"sub": "ann", "exp": exp, "tenant": "a b"}), TokenError::BadTenant),
        (json!({"sub": "ann", "exp": exp, "tenant": "."}), TokenError::BadTenant),
        (json!({"sub": 7, "exp": exp}), TokenError::BadClaims),
        (json!({"sub": "ann", "exp": exp.to_string()}), TokenError::BadClaims),
        (json!({"sub": "ann", "exp": exp, "nbf": "now"}), TokenError::BadClaims),
        (json!({"sub": "ann", "exp": exp, "tenant": ["acme"]}), TokenError::BadClaims),
        (json!({"sub": "ann", "exp": exp, "scope": ["admin", 7]}), TokenError::BadClaims),
        (json!({"sub": "ann", "exp": exp, "scope": {"admin": true}}), TokenError::BadClaims),
        (json!({"sub": ["ann"], "exp": exp}), TokenError::BadClaims),
        (json!(["ann"]), TokenError::BadClaims),
        (json!("ann"), TokenError::BadClaims),
    ] {
        assert_eq!(verify(&claims(body.clone())), Err(error), "{body}");
    }
    let twice = format!(r#"{{"sub":"ann","exp":{exp},"sub":"bob"}}"#);
    assert_eq!(verify(&hmac_token(HS256, &twice, SECRET)), Err(TokenError::BadClaims));
    let broken = r#"{"sub":"ann","exp":"#;
    assert_eq!(verify(&hmac_token(HS256, broken, SECRET)), Err(TokenError::BadClaims));
}

#[test]
fn a_forged_token_learns_nothing_about_its_claims() {
    let expired = json!({"sub": "ann", "exp": 1}).to_string();
    assert_eq!(verify(&hmac_token(HS256, &expired, b"guess")), Err(TokenError::BadSignature));
}

#[test]
fn issuer_and_audience_are_checked_when_configured() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let options = VerifierOptions {
        issuers: list(&["idp", "https://idp/"]),
        audiences: list(&["chat", "app"]),
        ..options()
    };
    let verifier = Verifier::new(Algorithm::HS256, KeySource::Secret(SECRET.to_vec()), options).unwrap();
    let result = |iss: Value, aud: Value| {
        let token = claims(json!({"sub": "ann", "exp": NOW + 60, "iss": iss, "aud": aud}));
        verifier.verify_now(&token, NOW_MS).unwrap().map(|_| ())
    };
    assert_eq!(result(json!("idp"), json!("chat")), Ok(()));
    assert_eq!(result(json!("idp"), json!(["mail", "chat"])), Ok(()));
    assert_eq!(result(json!("idp"), json!(["mail"])), Err(TokenError::WrongAudience));
    assert_eq!(result(json!("idp"), Value::Null), Err(TokenError::WrongAudience));
    assert_eq!(result(json!("https://idp/"), json!("app")), Ok(()));
    assert_eq!(result(json!("idp"), json!([7, null, "app"])), Ok(()));
    assert_eq!(result(json!("idp"), json!([])), Err(TokenError::WrongAudience));
    assert_eq!(result(json!("idp"), json!("chat app")), Err(TokenError::WrongAudience));
    for issuer in [json!("other"), json!("IDP"), json!("idp/"), json!("https://idp"), json!(""), Value::Null]
    {
        assert_eq!(result(issuer.clone(), json!("chat")), Err(TokenError::WrongIssuer), "{issuer}");
    }
    assert_eq!(result(json!("idp"), json!(5)), Err(TokenError::BadClaims));
    assert_eq!(result(json!(["idp"]), json!("chat")), Err(TokenError::BadClaims));
}

#[test]
fn issuer_and_audience_are_not_looked_at_when_nothing_is_configured() {
    for odd in [json!("any"), json!(["any"]), json!(5), json!({"a": 1}), json!([1, {}]), Value::Null] {
        let token = claims(json!({"sub": "ann", "exp": NOW + 60, "iss": odd, "aud": odd, "iat": odd}));
        assert_eq!(verify(&token).map(|identity| identity.user.to_string()).as_deref(), Ok("ann"), "{odd}");
    }
}

#[test]
fn scopes_may_be_a_list() {
    let token =
        claims(json!({"sub": "ann", "exp": NOW + 60, "scope": ["openid", "publish:news", "admin x"]}));
    let scopes = verify(&token).unwrap().scopes;
    assert!(scopes.may_publish("news") && !scopes.is_admin());
    let both = claims(json!({"sub": "ann", "exp": NOW + 60, "scope": "publish:news", "scp": ["admin"]}));
    assert!(!verify(&both).unwrap().scopes.is_admin(), "only the claim that is configured counts");
}

#[test]
fn claims_that_hold_more_than_a_name_give_a_name_of_their_own() {
    let user = |sub: &str| {
        verify(&claims(json!({"sub": sub, "exp": NOW + 60}))).map(|identity| identity.user.to_string())
    };
    assert_eq!(user("auth0|5f7c8ec7").as_deref(), Ok("auth0..7C5f7c8ec7"));
    assert_eq!(user("me+x@example.com").as_deref(), Ok("me..2Bx@example.com"));
    assert_eq!(user("jürgen").as_deref(), Ok("j..C3..BCrgen"));
    assert_eq!(user("ann/bob").as_deref(), Ok("ann..2Fbob"));
    assert_eq!(user("..").as_deref(), Ok("..2E..2E"));
    assert!(user(&"a".repeat(101)).is_ok_and(|name| name.len() == 73));
    // Using somebody else's escaped name as an id does not give that name.
    assert_ne!(user("auth0..7C5f7c8ec7"), user("auth0|5f7c8ec7"));
}

#[test]
fn other_claims_may_name_user_tenant_and_scopes() {
    let names = |user: &str, tenant: &str, scope: &str| ClaimNames {
        user: user.into(),
        tenant: tenant.into(),
        scope: scope.into(),
    };
    let verify = |names: ClaimNames, body: Value| {
        let options = VerifierOptions { claims: names, ..options() };
        let verifier = Verifier::new(Algorithm::HS256, KeySource::Secret(SECRET.to_vec()), options).unwrap();
        verifier.verify_now(&claims(body), NOW_MS).unwrap()
    };
    let body = json!({
        "sub": "opaque", "email": "ann@example.com", "https://app.example/org": "acme", "scp": ["admin"],
        "scope": "openid", "tenant": "ignored", "exp": NOW + 60,
    });
    let identity = verify(names("email", "https://app.example/org", "scp"), body.clone()).unwrap();
    assert_eq!((&*identity.user, &*identity.tenant), ("ann@example.com", "acme"));
    assert!(identity.scopes.is_admin());
    // One claim may have two meanings.
    let identity = verify(names("sub", "sub", "scope"), body.clone()).unwrap();
    assert_eq!((&*identity.user, &*identity.tenant), ("opaque", "opaque"));
    assert_eq!(verify(names("oid", "tenant", "scope"), body), Err(TokenError::NoSubject));
    let twice = format!(r#"{{"email":"ann","exp":{},"email":"bob"}}"#, NOW + 60);
    let options = VerifierOptions { claims: names("email", "tenant", "scope"), ..options() };
    let verifier = Verifier::new(Algorithm::HS256, KeySource::Secret(SECRET.to_vec()), options).unwrap();
    let token = hmac_token(HS256, &twice, SECRET);
    assert_eq!(verifier.verify_now(&token, NOW_MS), Some(Err(TokenError::BadClaims)));
}

#[test]
fn length_is_bounded() {
    let fits = claims(json!({"sub": "ann", "exp": NOW + 60, "more": "x".repeat(5_000)}));
    assert!(verify(&fits).is_ok());
    let too_long = claims(json!({"sub": "ann", "exp": NOW + 60, "more": "x".repeat(TOKEN_BYTES_MAX)}));
    assert_eq!(verify(&too_long), Err(TokenError::TooLong));
}

#[test]
fn shapes_that_are_no_jwt_are_refused() {
    let token = sign_hs256(SECRET, "ann", "acme", "", NOW_MS, 60);
    let (message, signature) = token.rsplit_once('.').unwrap();
    for broken in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        message.to_owned(),
        format!("{token}.x"),
        format!("{token}="),
        format!(" {token}"),
        format!("{message}.{}+", &signature[1..]),
        format!("\u{0}{token}"),
    ] {
        assert_eq!(verify(&broken), Err(TokenError::Malformed), "{broken:?}");
    }
}

#[test]
fn claims_that_are_no_text_are_refused_also_where_nobody_reads_them() {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    for (other, good) in [(&b"\xe2\x82\xac"[..], true), (b"\xe2\x82", false), (b"\xff", false)] {
        let claims = [br#"{"sub":"ann","exp":4000000000,"other":""#, other, br#""}"#].concat();
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(HS256), URL_SAFE_NO_PAD.encode(claims));
        let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        let expected = if good { Ok(()) } else { Err(TokenError::BadClaims) };
        assert_eq!(verify(&token).map(|_| ()), expected, "{other:02x?}");
    }
}

#[test]
fn setting_up_names_the_key_that_is_wrong() {
    let rsa = TestKey::new(Algorithm::RS256);
    let p384 = TestKey::p384();
    let (_public, public) = write(&rsa.public_pem);
    let (_private, private) = write(&rsa.private_pem);
    let (_other_curve, other_curve) = write(&p384.public_pem);
    let (_garbage, garbage) = write("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    let missing = PathBuf::from("no/such/key.pem");
    let file = KeySource::PublicKeyFile;
    for (algorithm, source, start) in [
        (Algorithm::HS256, KeySource::Secret(vec![1; 31]), "jwt_secret has 31 bytes"),
        (
            Algorithm::RS256,
            KeySource::Secret(vec![1; 64]),
            "jwt_algorithm is RS256, which does not match jwt_secret",
        ),
        (
            Algorithm::HS256,
            file(public.clone()),
            "jwt_algorithm is HS256, which does not match jwt_public_key_file",
        ),
        (Algorithm::HS256, KeySource::Jwks { url: "https://x/".into() }, "jwt_algorithm is HS256"),
        (Algorithm::RS256, file(missing), "jwt_public_key_file: can't read no/such/key.pem"),
        (Algorithm::ES256, file(public.clone()), "jwt_public_key_file: "),
        (Algorithm::EdDSA, file(public), "jwt_public_key_file: "),
        (Algorithm::RS256, file(private), "jwt_public_key_file: "),
        (Algorithm::ES256, file(other_curve), "jwt_public_key_file: "),
        (Algorithm::RS256, file(garbage), "jwt_public_key_file: "),
        (
            Algorithm::RS256,
            KeySource::Jwks { url: "http://issuer.example/".into() },
            "jwt_jwks_url: plain http",
        ),
    ] {
        let error = Verifier::new(algorithm, source, options()).err().unwrap().to_string();
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn a_small_rsa_key_is_refused() {
    // 1024 bits, made with `openssl genrsa 1024 | openssl rsa -pubout`.
    let (_folder, path) = write(SMALL_RSA_KEY);
    let error = Verifier::new(Algorithm::RS256, KeySource::PublicKeyFile(path), options()).err().unwrap();
    assert!(error.to_string().contains("2048"), "{error}");
}

#[test]
fn errors_do_not_repeat_the_secret_or_the_token() {
    let secret = "short but secret";
    let error = Verifier::new(Algorithm::HS256, KeySource::Secret(secret.into()), options()).err().unwrap();
    assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret));
}

proptest! {
    #[test]
    fn garbage_never_verifies(token in ".{0,300}") {
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn token_like_garbage_never_verifies(
        header in "[A-Za-z0-9_-]{0,60}", body in "[A-Za-z0-9_-]{0,60}", signature in "[A-Za-z0-9_-]{0,60}",
    ) {
        let result = verify(&format!("{header}.{body}.{signature}"));
        prop_assert!(result.is_err());
    }

    #[test]
    fn signed_garbage_never_panics(header in proptest::option::of(".{0,80}"), body in ".{0,200}") {
        let result = verify(&hmac_token(header.as_deref().unwrap_or(HS256), &body, SECRET));
        prop_assert!(result.is_err());
    }

    #[test]
    fn no_altered_token_verifies(position in 0usize..1_000, replacement in "[A-Za-z0-9_.-]") {
        let mut token = sign_hs256(SECRET, "ann", "acme", "admin", NOW_MS, 60);
        let position = position % token.len();
        prop_assume!(token[position..=position] != replacement);
        token.replace_range(position..=position, &replacement);
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn every_name_is_taken(user in "[A-Za-z0-9_:@-]{1,100}", tenant in "[A-Za-z0-9_:@-]{1,100}") {
        let identity = verify(&sign_hs256(SECRET, &user, &tenant, "", NOW_MS, 60)).unwrap();
        prop_assert_eq!((&*identity.user, &*identity.tenant), (user.as_str(), tenant.as_str()));
    }
}

fn options() -> VerifierOptions {
    VerifierOptions::default()
}

fn verifier() -> Verifier {
    Verifier::new(Algorithm::HS256, KeySource::Secret(SECRET.to_vec()), options()).unwrap()
}

fn verify(token: &str) -> Result<Identity, TokenError> {
    verifier().verify_now(token, NOW_MS).expect("a secret needs no fetching")
}

fn claims(claims: Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn write(pem: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pem).unwrap();
    (folder, path)
}

const SMALL_RSA_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCybwkV+dysmGWFDwVby9L/NjwF
TIfNxGIEGSjVlYZ/PWLm/ykbU+XOxGFyGL0jfU+5RWpcgNE+LPrK6Kx9WJggWVIS
KBTBOTUh66tOf1ABeZK/eLoGk9iEhV8wuOMckVjDJjXPdc1PE106kNj8ViGo8u2y
LJyFL8LBeJtYll06mQIDAQAB
-----END PUBLIC KEY-----
";

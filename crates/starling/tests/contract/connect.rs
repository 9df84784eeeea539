//! Steps to a session: upgrade, token, `connect`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::node::SECRET;
use starling_testkit::token::{Token, forge_claims};

use crate::place::{Arrangement, Place, everywhere, shared_node};
use crate::talk::{Talk, assert_time, keys};

#[test]
fn a_token_in_connect_makes_a_session() {
    everywhere(async |place| {
        let ada = place.connect(1, "ada").await;
        let welcome = ada.welcome();
        assert_eq!(
            keys(welcome),
            [
                "expires_at",
                "heartbeat_ms",
                "node",
                "resume_window_ms",
                "resumed",
                "session",
                "tenant",
                "ticket",
                "user"
            ]
        );
        assert_eq!((&welcome["user"], &welcome["tenant"]), (&json!("ada"), &json!(place.tenant())));
        assert_eq!((&welcome["node"], &welcome["resumed"]), (&json!(place.node(1).name()), &json!(false)));
        assert_eq!(
            (&welcome["heartbeat_ms"], &welcome["resume_window_ms"]),
            (&json!(25_000), &json!(120_000))
        );
        assert_time(&welcome["expires_at"]);
        let other = place.connect(0, "ada").await;
        assert_ne!(welcome["session"], other.welcome()["session"]);
    });
}

#[test]
fn a_token_in_the_header_makes_a_session() {
    everywhere(async |place| {
        let upgrade = Upgrade::to(&place.node(0).ws_url()).encoding(place.encoding);
        let mut ada = upgrade.bearer(&place.token("ada")).open().await.unwrap();
        assert_eq!(ada.hello(json!({})).await.unwrap()["user"], "ada");
    });
}

#[test]
fn without_the_claim_the_tenant_is_default() {
    everywhere(async |place| {
        let ada = place.connect_with(0, &Token::of("ada").sign(SECRET)).await;
        assert_eq!(ada.welcome()["tenant"], "default");
    });
}

/// Returns tokens that must be refused, each with its fault.
fn bad_tokens(place: &Place) -> Vec<(&'static str, String)> {
    let good = place.token("ada");
    vec![
        ("no token at all", "garbage".to_owned()),
        ("empty", String::new()),
        ("expired", place.claims("ada").expired_for(Duration::from_secs(10)).sign(SECRET)),
        ("not yet valid", place.claims("ada").claim("nbf", 4_000_000_000_u64).sign(SECRET)),
        ("another secret", place.claims("ada").sign("another secret, of the same length or longer")),
        ("unsigned", place.claims("ada").unsigned()),
        ("another algorithm in the header", place.claims("ada").header("alg", "HS512").sign(SECRET)),
        ("forged", forge_claims(&good, &json!({"sub": "eve", "exp": 4_000_000_000_u64}))),
        ("no user", place.claims("ada").without("sub").sign(SECRET)),
        ("no end", place.claims("ada").without("exp").sign(SECRET)),
        ("a user of control characters", place.claims("a\u{0}b").sign(SECRET)),
        ("a user of no characters", place.claims("").sign(SECRET)),
        ("a tenant that is no name", Token::of("ada").tenant("../other").sign(SECRET)),
    ]
}

#[test]
fn a_bad_token_in_connect_is_unauthorized_and_closes() {
    everywhere(async |place| {
        for (what, token) in bad_tokens(place) {
            let mut client = place.socket(0).await;
            assert_eq!(client.refused("connect", json!({ "token": token })).await, "unauthorized", "{what}");
            assert_eq!(client.close_code().await, Some(4401), "{what}");
        }
    });
}

#[test]
fn a_bad_token_in_the_header_is_refused_with_401() {
    everywhere(async |place| {
        for (what, token) in bad_tokens(place).into_iter().filter(|(_, token)| !token.is_empty()) {
            let upgrade = Upgrade::to(&place.node(0).ws_url()).encoding(place.encoding).bearer(&token);
            let (status, body) = not_upgraded(&upgrade).await;
            assert_eq!((status, &body["error"]["code"]), (401, &json!("unauthorized")), "{what}");
        }
    });
}

#[test]
fn connect_without_any_token_is_unauthorized_and_closes() {
    everywhere(async |place| {
        let mut client = place.socket(1).await;
        assert_eq!(client.refused("connect", json!({})).await, "unauthorized");
        assert_eq!(client.close_code().await, Some(4401));
    });
}

#[test]
fn a_command_before_connect_is_unauthorized_and_closes() {
    everywhere(async |place| {
        // The same holds for an invalid command, whose fault would be named after `connect`.
        for (op, fields) in [
            ("ping", json!({})),
            ("join", json!({"conversation": "c"})),
            ("join", json!({})),
            ("send", json!({"conversation": "not a name", "key": 1})),
            ("nothing", json!({})),
        ] {
            let mut client = place.socket(0).await;
            assert_eq!(client.refused(op, fields).await, "unauthorized");
            assert_eq!(client.close_code().await, Some(4401));
        }
    });
}

#[test]
fn a_second_connect_is_a_conflict_and_the_connection_goes_on() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let session = ada.welcome()["session"].clone();
        assert_eq!(ada.refused("connect", json!({"token": place.token("bob")})).await, "conflict");
        assert_eq!(ada.ask("ping", json!({})).await, json!({}));
        let created = ada.ask("create", json!({"conversation": "c"})).await;
        assert_eq!(created["created"], true, "still ada's session {session}");
        let shown = place.http(0, &place.token("ada"), "GET", "/v1/conversations/c").await.json().unwrap();
        assert_eq!(shown["owner"], "ada");
    });
}

#[test]
fn commands_that_follow_connect_at_once_wait_for_it() {
    everywhere(async |place| {
        let mut ada = place.socket(0).await;
        let connect = ada.submit("connect", json!({"token": place.token("ada")})).await.unwrap();
        let create = ada.submit("create", json!({"conversation": "c"})).await.unwrap();
        let join = ada.submit("join", json!({"conversation": "c"})).await.unwrap();
        for id in [connect, create, join] {
            ada.reply(id).await.unwrap();
        }
    });
}

#[tokio::test]
async fn without_connect_in_time_the_socket_closes_with_4408() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_CONNECT_TIMEOUT_SECONDS", "1")]).await;
    for encoding in Encoding::ALL {
        let begun = Instant::now();
        let mut client = Upgrade::to(&nodes[0].ws_url()).encoding(encoding).open().await.unwrap();
        assert_eq!(client.close_code().await, Some(4408));
        assert!(
            begun.elapsed() >= Duration::from_millis(900),
            "closed before its time: {:?}",
            begun.elapsed()
        );
    }
    // Clients that connected in time are unaffected.
    let mut ada = Client::connect(&nodes[0].ws_url(), &nodes[0].token("ada"), Encoding::Json).await.unwrap();
    assert_eq!(ada.closed(Duration::from_secs(3)).await.ok(), None);
    ada.ask("ping", json!({})).await;
}

#[tokio::test]
async fn whoever_offers_no_sub_protocol_speaks_json() {
    let node = shared_node().await;
    let mut client = Upgrade::to(&node.ws_url()).offer("").open().await.unwrap();
    client.hello(json!({"token": node.token("ada")})).await.unwrap();
}

#[tokio::test]
async fn whoever_offers_only_unknown_sub_protocols_is_refused_with_400() {
    let node = shared_node().await;
    for offer in ["graphql-ws", "starling.v2.json, mqtt"] {
        let (status, body) = not_upgraded(&Upgrade::to(&node.ws_url()).offer(offer)).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")), "{offer}");
    }
}

#[tokio::test]
async fn a_known_sub_protocol_among_unknown_ones_is_taken() {
    let node = shared_node().await;
    for (offer, encoding) in
        [("mqtt, starling.v1.msgpack", Encoding::MessagePack), ("starling.v1.json, wamp", Encoding::Json)]
    {
        let mut client = Upgrade::to(&node.ws_url()).encoding(encoding).offer(offer).open().await.unwrap();
        client.hello(json!({"token": node.token("ada")})).await.unwrap();
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_with_403_and_those_of_the_same_host_are_not() {
    let node = shared_node().await;
    let from = |origin: &str| Upgrade::to(&node.ws_url()).header("origin", origin);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let (status, body) = not_upgraded(&from(origin)).await;
        assert_eq!((status, &body["error"]["code"]), (403, &json!("forbidden")), "{origin}");
    }
    let mut client = from(&node.http_url()).open().await.unwrap();
    client.hello(json!({"token": node.token("ada")})).await.unwrap();
}

#[tokio::test]
async fn allowed_origins_are_those_that_the_operator_names() {
    let list = "https://one.example, https://two.example:443, http://*.three.example, capacitor://localhost, null, file://";
    let settings = [("STARLING_ALLOWED_ORIGINS", list)];
    let nodes = Arrangement::Alone.nodes_with(&settings).await;
    let from = |origin: &str| Upgrade::to(&nodes[0].ws_url()).header("origin", origin);
    for origin in [
        "https://one.example",
        "https://ONE.example:443",
        "https://two.example",
        "http://a.b.three.example",
        "capacitor://localhost",
        "null",
        "file://",
    ] {
        from(origin).open().await.unwrap();
    }
    for origin in [
        "https://three.example",
        "http://three.example",
        "https://a.three.example",
        "http://one.example",
        "https://one.example:8443",
        "capacitor://elsewhere",
        "https://one.example https://two.example",
        &nodes[0].http_url(),
    ] {
        assert_eq!(not_upgraded(&from(origin)).await.0, 403, "{origin}");
    }
}

async fn not_upgraded(upgrade: &Upgrade) -> (u16, Value) {
    match upgrade.open().await {
        Err(Failure::NotUpgraded { status, body }) => {
            (status, serde_json::from_str(&body).unwrap_or_default())
        }
        other => panic!("was not refused: {other:?}"),
    }
}

//! Expiry of tokens on open connections, and `refresh`.

use std::time::{Duration, Instant};

use serde_json::json;
use starling_testkit::node::SECRET;
use starling_testkit::token::Token;

use crate::place::everywhere;
use crate::talk::{Talk, assert_time};

const SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_socket_whose_token_expires_closes_with_4401() {
    everywhere(async |place| {
        let mut ada = place.connect_with(0, &place.claims("ada").ttl(SHORT).sign(SECRET)).await;
        let begun = Instant::now();
        ada.ask("ping", json!({})).await;
        assert_eq!(ada.close_code().await, Some(4401));
        let after = begun.elapsed();
        assert!((Duration::from_secs(1)..SHORT + Duration::from_secs(7)).contains(&after), "{after:?}");
        // With a new token the session continues.
        let resumed = place.resume(1, "ada", ada.resumption()).await;
        assert_eq!(resumed.welcome()["resumed"], true);
    });
}

#[test]
fn a_refresh_before_the_end_keeps_the_socket_open() {
    everywhere(async |place| {
        let mut ada = place.connect_with(0, &place.claims("ada").ttl(SHORT).sign(SECRET)).await;
        let before = ada.welcome()["expires_at"].clone();
        let refreshed = ada.ask("refresh", json!({"token": place.token("ada")})).await;
        assert_time(&refreshed["expires_at"]);
        assert!(refreshed["expires_at"].as_str() > before.as_str(), "{refreshed} {before}");
        assert!(ada.closed(SHORT + Duration::from_secs(4)).await.is_err());
        ada.ask("ping", json!({})).await;
    });
}

#[test]
fn a_refresh_by_a_shorter_token_shortens_the_time() {
    everywhere(async |place| {
        let mut ada = place.connect(1, "ada").await;
        ada.ask("refresh", json!({"token": place.claims("ada").ttl(SHORT).sign(SECRET)})).await;
        assert_eq!(ada.close_code().await, Some(4401));
    });
}

#[test]
fn a_refresh_is_for_the_same_user_and_tenant_and_by_a_good_token() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        for (token, code) in [
            (place.token("bob"), "forbidden"),
            (Token::of("ada").tenant("another").sign(SECRET), "forbidden"),
            ("garbage".to_owned(), "unauthorized"),
            (place.claims("ada").expired_for(Duration::from_secs(60)).sign(SECRET), "unauthorized"),
            (place.claims("ada").sign("another secret, of the same length or longer"), "unauthorized"),
        ] {
            assert_eq!(ada.refused("refresh", json!({ "token": token })).await, code, "{token}");
        }
        // The old token stays in use.
        assert_eq!(ada.ask("create", json!({"conversation": "c"})).await["created"], true);
    });
}

#[test]
fn a_refresh_brings_the_scope_of_the_new_token() {
    everywhere(async |place| {
        let mut ada = place.connect_with(0, &place.claims("ada").scope("publish:a").sign(SECRET)).await;
        assert_eq!(ada.refused("publish", json!({"topic": "b", "data": 1})).await, "forbidden");
        ada.ask("refresh", json!({"token": place.claims("ada").scope("publish:b").sign(SECRET)})).await;
        ada.ask("publish", json!({"topic": "b", "data": 1})).await;
        assert_eq!(ada.refused("publish", json!({"topic": "a", "data": 1})).await, "forbidden");
    });
}

#[test]
fn a_refresh_by_a_token_that_allows_less_ends_the_subscriptions_to_the_rest() {
    everywhere(async |place| {
        let claims = |scope: &str| place.claims("ada").scope(scope).sign(SECRET);
        let mut ada = place.connect_with(0, &claims("subscribe:lost subscribe:kept.*")).await;
        let mut bob = place.connect(1, "bob").await;
        for topic in ["lost", "kept.a"] {
            ada.ask("subscribe", json!({"topic": topic})).await;
            bob.ask("publish", json!({"topic": topic, "data": "before"})).await;
            ada.event("publication", |event| event["topic"] == topic).await;
        }
        ada.ask("refresh", json!({"token": claims("subscribe:kept.a")})).await;
        for topic in ["lost", "kept.a"] {
            bob.ask("publish", json!({"topic": topic, "data": "after"})).await;
        }
        let shown = ada.event("publication", |event| event["data"] == "after").await;
        assert_eq!(shown["topic"], "kept.a");
        assert_eq!(ada.rest("publication").await, [] as [serde_json::Value; 0]);
        assert_eq!(ada.refused("subscribe", json!({"topic": "lost"})).await, "forbidden");
        // With a token that allows it, it can be subscribed to again.
        ada.ask("refresh", json!({"token": claims("subscribe:*")})).await;
        ada.ask("subscribe", json!({"topic": "lost"})).await;
        bob.ask("publish", json!({"topic": "lost", "data": "again"})).await;
        ada.event("publication", |event| event["data"] == "again").await;
    });
}

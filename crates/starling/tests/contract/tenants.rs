//! No name reaches across tenants.

use serde_json::{Value, json};
use starling_testkit::client::Client;
use starling_testkit::node::SECRET;
use starling_testkit::token::Token;

use crate::place::{Place, everywhere};
use crate::talk::Talk;

/// Connects a user of the same name in a tenant with a similar name.
async fn stranger(place: &Place, node: usize, user: &str) -> Client {
    place.connect_with(node, &strangers_token(place, user)).await
}

fn strangers_token(place: &Place, user: &str) -> String {
    let tenant = format!("{}:c", place.tenant());
    Token::of(user).tenant(&tenant).scope("admin conversations:create subscribe:* publish:*").sign(SECRET)
}

#[test]
fn conversations_of_the_same_name_are_apart() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut stranger = stranger(place, 1, "bob").await;
        assert_eq!(stranger.refused("join", json!({"conversation": "c"})).await, "not_found");
        assert_eq!(stranger.ask("create", json!({"conversation": "c"})).await["created"], true);
        assert_eq!(stranger.join("c").await["online"], json!(["bob"]));
        let send = |content: &str| json!({"conversation": "c", "key": "k", "content": content});
        assert_eq!(bob.ask("send", send("ours")).await["seq"], 1);
        let theirs = stranger.ask("send", send("theirs")).await;
        assert_eq!((&theirs["seq"], &theirs["duplicate"]), (&json!(1), &json!(false)));
        for (client, content) in [(&mut ada, "ours"), (&mut bob, "ours"), (&mut stranger, "theirs")] {
            assert_eq!(client.event("message", |_| true).await["content"], content);
            client.ask("typing", json!({"conversation": "c", "typing": true})).await;
            assert_eq!(client.rest("message").await, [] as [Value; 0]);
        }
        assert_eq!(stranger.rest("typing").await, [] as [Value; 0]);
    });
}

#[test]
fn topics_of_the_same_name_are_apart() {
    everywhere(async |place| {
        let (mut ada, mut stranger) = (place.connect(0, "ada").await, stranger(place, 1, "ada").await);
        for client in [&mut ada, &mut stranger] {
            client.ask("subscribe", json!({"topic": "t"})).await;
        }
        ada.ask("publish", json!({"topic": "t", "data": "ours"})).await;
        stranger.ask("publish", json!({"topic": "t", "data": "theirs"})).await;
        assert_eq!(ada.event("publication", |_| true).await["data"], "ours");
        assert_eq!(stranger.event("publication", |_| true).await["data"], "theirs");
        assert_eq!(ada.rest("publication").await, [] as [Value; 0]);
        assert_eq!(stranger.rest("publication").await, [] as [Value; 0]);
    });
}

#[test]
fn an_admin_of_another_tenant_can_do_nothing_here() {
    everywhere(async |place| {
        let (_ada, mut bob) = place.joined("c").await;
        let session = bob.welcome()["session"].as_str().unwrap().to_owned();
        let token = strangers_token(place, "root");
        for (method, path) in [
            ("GET", "/v1/conversations/c".to_owned()),
            ("DELETE", "/v1/conversations/c".to_owned()),
            ("GET", "/v1/conversations/c/messages".to_owned()),
            ("PUT", "/v1/conversations/c/members/root".to_owned()),
            ("DELETE", format!("/v1/sessions/{session}")),
        ] {
            assert_eq!(place.http(0, &token, method, &path).await.status, 404, "{method} {path}");
        }
        let sessions = place.http(1, &token, "GET", "/v1/sessions?user=bob").await.json().unwrap();
        assert_eq!(sessions["sessions"], json!([]));
        bob.ask("ping", json!({})).await;
    });
}

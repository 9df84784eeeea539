//! Logs and cursors: how a client learns that the messages it has seen no longer exist.

use serde_json::{Value, json};
use starling_testkit::client::Client;
use starling_testkit::http::Request;
use starling_testkit::wait::until_true;

use crate::place::{Place, REPLAY_LIMIT, everywhere};
use crate::talk::{SOON, Talk, keys};

#[test]
fn a_join_with_a_cursor_of_a_deleted_conversation_is_a_reset() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let old = bob.join("c").await;
        for n in 0..6 {
            ada.say("c", &format!("old {n}")).await;
        }
        assert_eq!(bob.numbers(6).await, [1, 2, 3, 4, 5, 6]);
        remake(place, &mut ada, 4).await;
        // More than Bob had seen, so that the numbers alone look right.
        for n in 4..9 {
            ada.say("c", &format!("new {n}")).await;
        }
        let cursor = json!({"conversation": "c", "after": 6, "log": old["log"]});
        let joined = bob.ask("join", cursor.clone()).await;
        assert_eq!(
            (&joined["head"], &joined["replayed"], &joined["reset"]),
            (&json!(9), &json!(9), &json!(true))
        );
        assert_ne!(joined["log"], old["log"]);
        assert_eq!(bob.numbers(9).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        ada.say("c", "live").await;
        assert_eq!(bob.numbers(1).await, [10]);

        // With the current log, or without one, a cursor continues where it was.
        let there = bob.ask("join", json!({"conversation": "c", "after": 8, "log": joined["log"]})).await;
        assert_eq!((&there["replayed"], &there["reset"]), (&json!(2), &json!(false)));
        let none = bob.ask("join", json!({"conversation": "c", "after": 9})).await;
        assert_eq!((&none["replayed"], &none["reset"]), (&json!(1), &json!(false)));
        let head = bob.ask("join", json!({"conversation": "c", "log": old["log"]})).await;
        assert_eq!((&head["replayed"], &head["reset"]), (&json!(0), &json!(false)), "no cursor, no reset");
    });
}

#[test]
fn a_cursor_beyond_the_head_is_a_reset_with_and_without_its_log() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        for n in 0..3 {
            ada.say("c", &format!("{n}")).await;
        }
        let log = bob.join("c").await["log"].clone();
        for cursor in [json!({"after": 4}), json!({"after": 100, "log": log})] {
            let mut fields = cursor.clone();
            fields["conversation"] = json!("c");
            let joined = bob.ask("join", fields).await;
            assert_eq!(
                (&joined["head"], &joined["replayed"], &joined["reset"]),
                (&json!(3), &json!(3), &json!(true))
            );
            assert_eq!(bob.numbers(3).await, [1, 2, 3]);
        }
        let joined = bob.ask("join", json!({"conversation": "c", "after": 3})).await;
        assert_eq!((&joined["replayed"], &joined["reset"]), (&json!(0), &json!(false)));
    });
}

#[test]
fn a_resume_with_a_cursor_of_a_deleted_conversation_is_a_reset_and_replays_no_more_than_the_limit() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let old = bob.join("c").await;
        for n in 0..5 {
            ada.say("c", &format!("old {n}")).await;
        }
        bob.numbers(5).await;
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": {"seq": 5, "log": old["log"]}});
        bob.cut();
        let count = REPLAY_LIMIT + 2;
        remake(place, &mut ada, count).await;
        let mut bob = place.resume(1, "bob", resume).await;
        let welcome = bob.welcome().clone();
        assert_eq!(welcome["resumed"], true);
        let c = &welcome["conversations"]["c"];
        assert_eq!(keys(c), ["head", "log", "replayed", "reset", "truncated"]);
        assert_eq!((&c["head"], &c["replayed"]), (&json!(count), &json!(REPLAY_LIMIT)));
        assert_eq!((&c["reset"], &c["truncated"]), (&json!(true), &json!(true)));
        let shown: Vec<u64> = bob.numbers(REPLAY_LIMIT as usize).await;
        assert_eq!(shown, (3..=count).collect::<Vec<_>>());

        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": {"seq": count, "log": c["log"]}});
        bob.cut();
        ada.say("c", "missed").await;
        let mut bob = place.resume(0, "bob", resume).await;
        let c = &bob.welcome()["conversations"]["c"];
        assert_eq!((&c["replayed"], &c["reset"]), (&json!(1), &json!(false)));
        assert_eq!(bob.numbers(1).await, [count + 1]);
    });
}

#[test]
fn without_a_cursor_a_session_does_not_get_into_the_conversation_that_was_made_again() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let resume = bob.resumption();
        bob.cut();
        let bob = place.resume(1, "bob", resume).await;
        let resume = bob.resumption();
        assert_eq!(keys(&bob.welcome()["conversations"]), ["c"]);
        bob.cut();
        // Otherwise the session would still be told on the connection that is cut.
        until_true(SOON, "Bob to be away", async || {
            let list = place.http(0, &place.admin(), "GET", "/v1/sessions?user=bob").await.json()?;
            let sessions = list["sessions"].as_array();
            Ok(sessions.is_some_and(|sessions| sessions.iter().all(|session| session["attached"] == false)))
        })
        .await
        .unwrap();
        remake(place, &mut ada, 1).await;
        let bob = place.resume(0, "bob", resume).await;
        assert_eq!((&bob.welcome()["conversations"], &bob.welcome()["gone"]), (&json!({}), &json!(["c"])));
    });
}

#[test]
fn those_who_joined_are_told_of_a_deletion_before_they_are_out() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let log = ada.join("c").await["log"].clone();
        place.http(1, &place.token("ada"), "DELETE", "/v1/conversations/c").await;
        assert_eq!(
            ada.event("deleted", |_| true).await,
            json!({"ev": "deleted", "conversation": "c", "log": log})
        );
        ada.event("member", |event| event["user"] == "ada" && event["member"] == false).await;
        // Bob is a member who has not joined.
        bob.event("member", |event| event["user"] == "bob" && event["member"] == false).await;
        assert_eq!(bob.rest("deleted").await, [] as [Value; 0]);
    });
}

#[test]
fn those_who_joined_are_told_of_a_new_title_and_new_metadata() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut cy = place.connect(0, "cy").await;
        let patch = async |body: Value| {
            let url = format!("{}/v1/conversations/c", place.node(1).http_url());
            let patch = Request::new("PATCH", &url).bearer(&place.token("ada")).json(&body);
            assert_eq!(patch.send().await.unwrap().status, 200);
        };
        patch(json!({"title": "Tea", "metadata": {"colour": "green"}})).await;
        let updated =
            json!({"ev": "updated", "conversation": "c", "title": "Tea", "metadata": {"colour": "green"}});
        for client in [&mut ada, &mut bob] {
            assert_eq!(client.event("updated", |_| true).await, updated);
        }
        patch(json!({"title": null})).await;
        let updated = json!({"ev": "updated", "conversation": "c", "metadata": {"colour": "green"}});
        for client in [&mut ada, &mut bob] {
            assert_eq!(client.event("updated", |_| true).await, updated, "all that there is now");
        }
        for client in [&mut ada, &mut bob, &mut cy] {
            assert_eq!(client.rest("updated").await, [] as [Value; 0], "once, and to those who joined alone");
        }
    });
}

#[test]
fn a_conversation_whose_owner_leaves_is_handed_on() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let change = async |user: &str, method: &str, path: &str| {
            let path = format!("/v1/conversations/{path}");
            place.http(1, &place.token(user), method, &path).await.status
        };
        assert_eq!(change("bob", "PUT", "c/members/cy").await, 403);
        assert_eq!(change("ada", "DELETE", "c/members/ada").await, 204);
        for client in [&mut ada, &mut bob] {
            client.event("member", |event| event["user"] == "ada" && event["member"] == false).await;
        }
        assert_eq!(change("bob", "PUT", "c/members/cy").await, 200, "bob owns it now");
        // He also gets it on the node that only received the event.
        let shown = place.http(0, &place.token("bob"), "GET", "/v1/conversations/c").await.json().unwrap();
        assert_eq!(shown["owner"], "bob");
        let gone = place.http(0, &place.token("bob"), "DELETE", "/v1/conversations/c/members/cy").await;
        assert_eq!(gone.status, 204);
    });
}

/// Deletes a conversation on the other node and creates it again with this many messages.
async fn remake(place: &Place, ada: &mut Client, count: u64) {
    let deleted = place.http(1, &place.token("ada"), "DELETE", "/v1/conversations/c").await;
    assert_eq!(deleted.status, 204);
    ada.event("member", |event| event["conversation"] == "c" && event["member"] == false).await;
    let created = ada.ask("create", json!({"conversation": "c", "members": ["bob"]})).await;
    assert_eq!(created["created"], true);
    for n in 0..count {
        ada.say("c", &format!("new {n}")).await;
    }
}

//! Sessions that outlive their connections.

use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, without_logs};
use starling_testkit::node::SECRET;
use starling_testkit::token::Token;

use crate::place::{Arrangement, Place, REPLAY_LIMIT, everywhere};
use crate::talk::{Talk, keys};

#[test]
fn a_client_goes_on_at_the_other_node_where_it_was() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        for n in 0..3 {
            ada.say("c", &format!("text {n}")).await;
        }
        assert_eq!(bob.numbers(3).await, [1, 2, 3]);
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 3});
        let session = bob.welcome()["session"].clone();
        bob.cut();
        for n in 3..6 {
            ada.say("c", &format!("text {n}")).await;
        }
        let mut bob = place.resume(0, "bob", resume).await;
        let welcome = bob.welcome().clone();
        assert_eq!((&welcome["resumed"], &welcome["session"]), (&json!(true), &session));
        assert_eq!(
            without_logs(&welcome["conversations"]),
            json!({"c": {"head": 6, "replayed": 3, "truncated": false}})
        );
        assert_eq!((&welcome["topics"], &welcome["gone"]), (&json!({}), &json!([])));
        assert_eq!(
            keys(&welcome),
            [
                "conversations",
                "expires_at",
                "gone",
                "heartbeat_ms",
                "node",
                "resume_window_ms",
                "resumed",
                "session",
                "tenant",
                "ticket",
                "topics",
                "user"
            ]
        );
        ada.say("c", "live").await;
        assert_eq!(bob.numbers(4).await, [4, 5, 6, 7]);
        bob.say("c", "I am back").await;
        assert_eq!(ada.numbers(8).await.last(), Some(&8));
    });
}

#[test]
fn the_reply_to_a_resume_comes_before_the_replay() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 0});
        bob.cut();
        ada.say("c", "one").await;
        ada.say("c", "two").await;
        let mut bob = place.socket(0).await;
        let fields = json!({"token": place.token("bob"), "resume": resume});
        let id = bob.submit("connect", fields).await.unwrap();
        assert_eq!(bob.frame().await["id"], id);
        assert_eq!(
            (bob.frame().await["seq"].clone(), bob.frame().await["seq"].clone()),
            (json!(1), json!(2))
        );
    });
}

#[test]
fn without_cursors_a_session_is_in_what_it_was_in() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        bob.ask("create", json!({"conversation": "left"})).await;
        bob.join("left").await;
        bob.ask("leave", json!({"conversation": "left"})).await;
        bob.ask("subscribe", json!({"topic": "t"})).await;
        bob.ask("subscribe", json!({"topic": "ended"})).await;
        bob.ask("unsubscribe", json!({"topic": "ended"})).await;
        ada.say("c", "one").await;
        bob.numbers(1).await;
        let resume = back_and_gone(place, bob, "bob").await;
        ada.say("c", "missed").await;
        let mut bob = place.resume(0, "bob", resume).await;
        let welcome = bob.welcome().clone();
        assert_eq!(welcome["resumed"], true);
        assert_eq!(
            without_logs(&welcome["conversations"]),
            json!({"c": {"head": 2, "replayed": 0, "truncated": false}})
        );
        assert_eq!(keys(&welcome["topics"]), ["t"]);
        ada.say("c", "live").await;
        ada.ask("publish", json!({"topic": "t", "data": 1})).await;
        assert_eq!(bob.numbers(1).await, [3]);
        bob.event("publication", |event| event["data"] == 1).await;
    });
}

/// Resumes on the same node and drops the connection again; returns the next `resume`. A node only resumes a session after it has
/// written its latest state, so other nodes know it from here on.
async fn back_and_gone(place: &Place, client: Client, user: &str) -> Value {
    let resume = client.resumption();
    client.cut();
    let back = place.resume(1, user, resume).await;
    assert_eq!(back.welcome()["resumed"], true);
    let resume = back.resumption();
    back.cut();
    resume
}

#[test]
fn cursors_lead_into_conversations_and_topics_that_the_session_was_not_in() {
    everywhere(async |place| {
        let (mut ada, bob) = place.members("c").await;
        let seen = ada.ask("publish", json!({"topic": "t", "data": 0})).await;
        for n in 1..=2 {
            ada.say("c", "x").await;
            ada.ask("publish", json!({"topic": "t", "data": n})).await;
        }
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 1});
        resume["topics"] = json!({"t": seen});
        bob.cut();
        let mut bob = place.resume(0, "bob", resume).await;
        let welcome = bob.welcome();
        assert_eq!(
            without_logs(&welcome["conversations"]),
            json!({"c": {"head": 2, "replayed": 1, "truncated": false}})
        );
        let offset = seen["offset"].as_u64().unwrap();
        let expected =
            json!({"epoch": seen["epoch"], "offset": offset + 2, "recovered": true, "replayed": 2});
        assert_eq!(welcome["topics"], json!({"t": expected}));
        assert_eq!(bob.numbers(1).await, [2]);
        for n in 1..=2 {
            let event = bob.event("publication", |_| true).await;
            assert_eq!((&event["offset"], &event["data"]), (&json!(offset + n), &json!(n)));
        }
        ada.say("c", "live").await;
        ada.ask("publish", json!({"topic": "t", "data": "live"})).await;
        assert_eq!(bob.numbers(1).await, [3]);
        assert_eq!(bob.event("publication", |_| true).await["data"], "live");
    });
}

#[test]
fn a_topic_of_another_epoch_is_not_recovered_and_one_out_of_scope_is_left_out() {
    everywhere(async |place| {
        let bob = place.connect(0, "bob").await;
        let mut resume = bob.resumption();
        let since = json!({"epoch": "another", "offset": 3});
        resume["topics"] = json!({"allowed": since, "denied": since});
        bob.cut();
        let token = place.claims("bob").scope("subscribe:allowed").sign(SECRET);
        let bob = Client::resume(&place.node(1).ws_url(), &token, place.encoding, resume).await.unwrap();
        assert_eq!(bob.welcome()["resumed"], true);
        assert_eq!(keys(&bob.welcome()["topics"]), ["allowed"]);
        let allowed = &bob.welcome()["topics"]["allowed"];
        assert_eq!((&allowed["recovered"], &allowed["replayed"]), (&json!(false), &json!(0)));
    });
}

#[test]
fn the_limit_of_a_replay_holds_for_a_resume_too() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 0});
        bob.cut();
        let head = REPLAY_LIMIT + 5;
        for _ in 0..head {
            ada.say("c", "x").await;
        }
        let mut bob = place.resume(0, "bob", resume).await;
        let expected = json!({"c": {"head": head, "replayed": REPLAY_LIMIT, "truncated": true}});
        assert_eq!(without_logs(&bob.welcome()["conversations"]), expected);
        assert_eq!(bob.numbers(REPLAY_LIMIT as usize).await, (6..=head).collect::<Vec<_>>());
    });
}

#[test]
fn a_ticket_serves_more_than_once_and_so_does_its_successor() {
    everywhere(async |place| {
        let (_ada, bob) = place.joined("c").await;
        let first = bob.resumption();
        let session = bob.welcome()["session"].clone();
        bob.cut();
        // A client that did not receive the reply sends the same ticket again.
        for node in [0, 1, 1, 0] {
            let bob = place.resume(node, "bob", first.clone()).await;
            assert_eq!((&bob.welcome()["resumed"], &bob.welcome()["session"]), (&json!(true), &session));
            let second = bob.resumption();
            bob.cut();
            let bob = place.resume(node, "bob", second).await;
            assert_eq!((&bob.welcome()["resumed"], &bob.welcome()["session"]), (&json!(true), &session));
            bob.cut();
        }
    });
}

#[test]
fn an_invalid_or_foreign_ticket_begins_a_new_session_in_nothing() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let mut cy = place.connect(1, "cy").await;
        let foreigner = place.connect_with(0, &Token::of("bob").sign(SECRET)).await;
        let mut altered = bob.resumption();
        let mut ticket: Vec<char> = altered["ticket"].as_str().unwrap().chars().collect();
        let middle = ticket.len() / 2;
        ticket[middle] = if ticket[middle] == 'A' { 'B' } else { 'A' };
        altered["ticket"] = json!(ticket.into_iter().collect::<String>());
        let mut mismatched = bob.resumption();
        mismatched["session"] = cy.welcome()["session"].clone();
        for (what, mut resume) in [
            ("garbage", json!({"session": bob.welcome()["session"], "ticket": "garbage"})),
            ("empty", json!({"session": "", "ticket": ""})),
            ("altered", altered),
            ("of another session", mismatched),
            ("of another user", cy.resumption()),
            ("of another tenant", foreigner.resumption()),
        ] {
            resume["cursors"] = json!({"c": 0});
            let new = place.resume(0, "bob", resume).await;
            assert_eq!(new.welcome()["resumed"], false, "{what}");
            assert_ne!(new.welcome()["session"], bob.welcome()["session"], "{what}");
            for field in ["conversations", "topics", "gone"] {
                assert_eq!(new.welcome().get(field), None, "{what}");
            }
        }
        // The sessions of the others continue, and the new ones have joined no conversation.
        cy.ask("ping", json!({})).await;
        let mut new =
            place.resume(1, "bob", json!({"session": "s", "ticket": "t", "cursors": {"c": 0}})).await;
        ada.say("c", "unheard").await;
        ada.numbers(1).await;
        assert_eq!(new.rest("message").await, [] as [Value; 0]);
    });
}

#[tokio::test]
async fn a_session_ends_with_its_window() {
    for arrangement in [Arrangement::Alone, Arrangement::Cluster] {
        let nodes = arrangement.nodes_with(&[("STARLING_RESUME_WINDOW_SECONDS", "2")]).await;
        let (first, last) = (&nodes[0], nodes.last().unwrap());
        let bob = Client::connect(&first.ws_url(), &first.token("bob"), Encoding::Json).await.unwrap();
        assert_eq!(bob.welcome()["resume_window_ms"], 2_000);
        let resume = bob.resumption();
        bob.cut();
        let back =
            async || Client::resume(&last.ws_url(), &last.token("bob"), Encoding::Json, resume.clone()).await;
        // The window does not begin while a connection holds the session.
        let held = back().await.unwrap();
        assert_eq!(held.welcome()["resumed"], true);
        tokio::time::sleep(Duration::from_secs(4)).await;
        held.cut();
        let held = back().await.unwrap();
        assert_eq!(held.welcome()["resumed"], true, "{arrangement:?}");
        held.cut();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(back().await.unwrap().welcome()["resumed"], false, "{arrangement:?}");
    }
}

#[test]
fn attaching_a_session_elsewhere_closes_its_older_socket_with_4409() {
    everywhere(async |place| {
        let (mut ada, mut older) = place.joined("c").await;
        for node in [0, 1, 1, 0] {
            let mut resume = older.resumption();
            resume["cursors"] = json!({"c": 0});
            let mut newer = place.resume(node, "bob", resume).await;
            assert_eq!(newer.welcome()["resumed"], true);
            assert_eq!(older.close_code().await, Some(4409));
            newer.ask("ping", json!({})).await;
            older = newer;
        }
        ada.say("c", "hello").await;
        assert_eq!(older.event("message", |message| message["seq"] == 1).await["content"], "hello");
        assert_eq!(older.rest("message").await, [] as [Value; 0], "once");
    });
}

#[test]
fn conversations_that_one_may_no_longer_read_are_gone() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        ada.ask("create", json!({"conversation": "d", "members": ["bob"]})).await;
        ada.ask("create", json!({"conversation": "private"})).await;
        bob.event("member", |event| event["conversation"] == "d").await;
        bob.join("d").await;
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 0, "d": 0, "private": 0, "never-was": 0});
        bob.cut();
        assert_eq!(
            place.http(0, &place.token("ada"), "DELETE", "/v1/conversations/c/members/bob").await.status,
            204
        );
        let bob = place.resume(0, "bob", resume).await;
        assert_eq!(bob.welcome()["resumed"], true);
        assert_eq!(keys(&bob.welcome()["conversations"]), ["d"]);
        let mut gone: Vec<&str> =
            bob.welcome()["gone"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        gone.sort_unstable();
        assert_eq!(gone, ["c", "never-was", "private"]);
    });
}

#[test]
fn a_session_that_an_operator_ends_closes_with_4410_and_its_ticket_is_void() {
    everywhere(async |place| {
        assert_eq!(place.http(0, &place.admin(), "DELETE", "/v1/sessions/unknown").await.status, 404);
        for attached in [true, false] {
            for node in [0, 1] {
                let mut bob = place.connect(node, "bob").await;
                let resume = bob.resumption();
                let session = bob.welcome()["session"].as_str().unwrap().to_owned();
                let mut spare = None;
                if attached {
                    spare = Some(place.connect(node, "bob").await);
                } else {
                    bob.cut();
                    bob = place.connect(node, "bob").await;
                }
                let path = format!("/v1/sessions/{session}");
                assert_eq!(place.http(0, &place.token("ada"), "DELETE", &path).await.status, 403);
                assert_eq!(place.http(0, &place.admin(), "DELETE", &path).await.status, 204);
                if attached {
                    assert_eq!(bob.close_code().await, Some(4410));
                } else {
                    bob.ask("ping", json!({})).await;
                }
                for node in [0, 1] {
                    let new = place.resume(node, "bob", resume.clone()).await;
                    assert_eq!(new.welcome()["resumed"], false);
                    assert_ne!(new.welcome()["session"], json!(session));
                }
                // The user's other sessions are unaffected.
                if let Some(spare) = &mut spare {
                    spare.ask("ping", json!({})).await;
                }
                // Repeating the request is harmless, in case the first response was lost.
                assert_eq!(place.http(1, &place.admin(), "DELETE", &path).await.status, 204);
            }
        }
    });
}

#[test]
fn a_resume_needs_a_valid_token_beside_the_ticket() {
    everywhere(async |place| {
        let bob = place.connect(0, "bob").await;
        let resume = bob.resumption();
        bob.cut();
        let expired = place.claims("bob").expired_for(Duration::from_secs(60)).sign(SECRET);
        let url = place.node(1).ws_url();
        let refused = Client::resume(&url, &expired, place.encoding, resume.clone()).await;
        assert!(
            matches!(&refused, Err(Failure::Refused(reply)) if reply.code == "unauthorized"),
            "{refused:?}"
        );
        assert_eq!(place.resume(1, "bob", resume).await.welcome()["resumed"], true);
    });
}

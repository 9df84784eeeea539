//! Creation of conversations, their members, and their deletion.

use serde_json::{Value, json};
use starling_testkit::http::Request;

use crate::place::{Place, everywhere};
use crate::talk::{SOON, Talk, keys};

#[test]
fn the_creator_is_owner_and_a_member_and_the_others_are_members() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let fields = json!({"conversation": "c", "title": "Tea", "members": ["bob", "cy", "bob", "ada"], "metadata": {"n": 1}});
        assert_eq!(ada.ask("create", fields).await, json!({"conversation": "c", "created": true}));
        let shown = place.http(1, &place.token("bob"), "GET", "/v1/conversations/c").await.json().unwrap();
        assert_eq!((&shown["owner"], &shown["title"]), (&json!("ada"), &json!("Tea")));
        assert_eq!((&shown["metadata"], &shown["head"]), (&json!({"n": 1}), &json!(0)));
        assert_eq!(shown["members"], json!(["ada", "bob", "cy"]));
        ada.join("c").await;
    });
}

#[test]
fn a_conversation_without_a_name_gets_one() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        let first = ada.ask("create", json!({})).await;
        let second = ada.ask("create", json!({"conversation": null})).await;
        assert!(first["created"] == true && first["conversation"] != second["conversation"]);
        ada.join(first["conversation"].as_str().unwrap()).await;
    });
}

#[test]
fn creating_what_exists_answers_false_to_members_and_conflict_to_others() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        for member in [&mut ada, &mut bob] {
            let again = member
                .ask("create", json!({"conversation": "c", "title": "Other", "members": ["eve"]}))
                .await;
            assert_eq!(again, json!({"conversation": "c", "created": false}));
        }
        let mut eve = place.connect(1, "eve").await;
        assert_eq!(eve.refused("create", json!({"conversation": "c"})).await, "conflict");
        assert_eq!(eve.refused("join", json!({"conversation": "c"})).await, "not_found");
        let shown = place.http(0, &place.token("ada"), "GET", "/v1/conversations/c").await.json().unwrap();
        assert_eq!((&shown["members"], shown.get("title")), (&json!(["ada", "bob"]), None));
    });
}

#[test]
fn creating_needs_the_scope_for_it() {
    everywhere(async |place| {
        let token = place.claims("ada").scope("subscribe:* publish:*").sign(place.node(0).secret());
        let mut ada = place.connect_with(0, &token).await;
        assert_eq!(ada.refused("create", json!({"conversation": "c"})).await, "forbidden");
        let token = place.claims("ada").without("scope").sign(place.node(0).secret());
        let mut ada = place.connect_with(0, &token).await;
        assert_eq!(ada.refused("create", json!({"conversation": "c"})).await, "forbidden");
    });
}

#[test]
fn one_of_two_who_create_the_same_at_the_same_time_has_created_it() {
    everywhere(async |place| {
        let (mut here, mut there) = (place.connect(0, "ada").await, place.connect(1, "ada").await);
        for n in 0..10 {
            let fields = json!({"conversation": format!("c{n}")});
            let (one, two) = (here.submit("create", fields.clone()), there.submit("create", fields));
            let (one, two) = (one.await.unwrap(), two.await.unwrap());
            let created = [here.reply(one).await.unwrap(), there.reply(two).await.unwrap()];
            assert_eq!(created.iter().filter(|reply| reply["created"] == true).count(), 1, "{created:?}");
        }
    });
}

#[test]
fn join_answers_where_the_conversation_stands() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let mut empty = ada.join("c").await;
        let log = empty.as_object_mut().and_then(|joined| joined.remove("log"));
        assert!(
            log.as_ref().and_then(Value::as_str).is_some_and(|log| (1..=32).contains(&log.len())),
            "{log:?}"
        );
        let expected = json!({"head": 0, "replayed": 0, "truncated": false, "reset": false, "online": ["ada"], "reads": {}});
        assert_eq!(empty, expected);
        ada.say("c", "one").await;
        ada.say("c", "two").await;
        ada.ask("read", json!({"conversation": "c", "seq": 1})).await;
        // The other node learns of Ada a moment later.
        starling_testkit::wait::until_true(SOON, "Ada to be there", async || {
            let list = bob.command("presence", json!({"conversation": "c"})).await?;
            Ok(list["users"][0]["online"] == true)
        })
        .await
        .unwrap();
        let joined = bob.join("c").await;
        assert_eq!(keys(&joined), ["head", "log", "online", "reads", "replayed", "reset", "truncated"]);
        assert_eq!(joined.get("log"), log.as_ref(), "the same at each node");
        assert_eq!((&joined["head"], &joined["replayed"]), (&json!(2), &json!(0)));
        let mut online: Vec<&str> =
            joined["online"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        online.sort_unstable();
        assert_eq!((online, &joined["reads"]), (vec!["ada", "bob"], &json!({"ada": 1})));
    });
}

/// Returns every command on a conversation, with valid fields.
fn commands(conversation: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("join", json!({"conversation": conversation, "after": 0})),
        ("leave", json!({"conversation": conversation})),
        ("send", json!({"conversation": conversation, "key": "k", "content": "hi"})),
        ("history", json!({"conversation": conversation})),
        ("read", json!({"conversation": conversation, "seq": 1})),
        ("typing", json!({"conversation": conversation, "typing": true})),
        ("presence", json!({"conversation": conversation})),
    ]
}

#[test]
fn to_others_a_conversation_that_exists_and_one_that_does_not_look_the_same() {
    everywhere(async |place| {
        let (mut ada, _bob) = place.joined("real").await;
        for node in [0, 1] {
            let mut eve = place.connect(node, "eve").await;
            for ((op, real), (_, missing)) in commands("real").into_iter().zip(commands("missing")) {
                let (real, missing) = (eve.refusal(op, real).await, eve.refusal(op, missing).await);
                assert_eq!(real.code, "not_found", "{op}");
                assert_eq!(
                    (&real.message, real.retry_after_ms),
                    (&missing.message, missing.retry_after_ms),
                    "{op}"
                );
            }
        }
        assert_eq!(ada.ask("history", json!({"conversation": "real"})).await["messages"], json!([]));
        for name in ["message", "typing", "read"] {
            assert_eq!(ada.rest(name).await, [] as [Value; 0]);
        }
    });
}

#[test]
fn whoever_left_gets_nothing_more_and_still_may_send() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut bobs_phone = place.connect(1, "bob").await;
        bobs_phone.join("c").await;
        assert_eq!(bob.ask("leave", json!({"conversation": "c"})).await, json!({}));
        bob.say("c", "from outside").await;
        assert_eq!(ada.numbers(1).await, [1]);
        ada.say("c", "unheard").await;
        ada.ask("typing", json!({"conversation": "c", "typing": true})).await;
        assert_eq!(bobs_phone.numbers(2).await, [1, 2]);
        bob.join("c").await;
        ada.say("c", "heard").await;
        assert_eq!(bob.numbers(1).await, [3], "and neither 1 nor 2");
    });
}

#[test]
fn leaving_what_one_has_not_joined_is_harmless() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        assert_eq!(ada.ask("leave", json!({"conversation": "c"})).await, json!({}));
        assert_eq!(bob.ask("leave", json!({"conversation": "c"})).await, json!({}));
    });
}

#[test]
fn a_new_member_is_told_wherever_connected_and_so_is_who_joined() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let (mut cy, mut cys_phone) = (place.connect(0, "cy").await, place.connect(1, "cy").await);
        assert_eq!(cy.refused("join", json!({"conversation": "c"})).await, "not_found");
        assert_eq!(cys_phone.refused("join", json!({"conversation": "c"})).await, "not_found");
        assert_eq!(change(place, "ada", "PUT", "c/members/cy").await, 200);
        let expected = json!({"ev": "member", "conversation": "c", "user": "cy", "member": true});
        for client in [&mut ada, &mut bob, &mut cy, &mut cys_phone] {
            assert_eq!(client.event("member", |event| event["user"] == "cy").await, expected);
        }
        for client in [&mut cy, &mut cys_phone] {
            client.join("c").await;
        }
        ada.say("c", "welcome").await;
        for client in [&mut cy, &mut cys_phone] {
            assert_eq!(client.numbers(1).await, [1]);
            assert_eq!(client.rest("member").await, [] as [Value; 0], "told once");
        }
        // Adding a member again changes nothing and sends no event.
        assert_eq!(change(place, "ada", "PUT", "c/members/cy").await, 200);
        assert_eq!(bob.rest("member").await, [] as [Value; 0]);
    });
}

#[test]
fn a_removed_member_is_told_and_is_no_longer_joined() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        ada.say("c", "one").await;
        assert_eq!(bob.numbers(1).await, [1]);
        assert_eq!(change(place, "ada", "DELETE", "c/members/bob").await, 204);
        let expected = json!({"ev": "member", "conversation": "c", "user": "bob", "member": false});
        for client in [&mut ada, &mut bob] {
            assert_eq!(client.event("member", |event| event["member"] == false).await, expected);
        }
        ada.event("presence", |event| event["user"] == "bob" && event["online"] == false).await;
        ada.say("c", "two").await;
        for (op, fields) in commands("c") {
            assert_eq!(bob.refused(op, fields).await, "not_found", "{op}");
        }
        assert_eq!(bob.rest("message").await, [] as [Value; 0]);
        // After he is added again, he must join again.
        assert_eq!(change(place, "ada", "PUT", "c/members/bob").await, 200);
        bob.event("member", |event| event["member"] == true).await;
        ada.say("c", "three").await;
        // Messages that this node has not received yet arrive live.
        let joined = bob.ask("join", json!({"conversation": "c", "after": 1})).await;
        assert_eq!(joined["replayed"].as_u64(), joined["head"].as_u64().map(|head| head - 1));
        ada.say("c", "four").await;
        assert_eq!(bob.numbers(3).await, [2, 3, 4]);
    });
}

#[test]
fn a_member_may_go_by_itself_and_only_the_owner_sends_others_away() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        assert_eq!(change(place, "bob", "DELETE", "c/members/ada").await, 403);
        assert_eq!(change(place, "bob", "PUT", "c/members/eve").await, 403);
        assert_eq!(change(place, "eve", "DELETE", "c/members/ada").await, 404);
        assert_eq!(change(place, "bob", "DELETE", "c/members/bob").await, 204);
        for client in [&mut ada, &mut bob] {
            client.event("member", |event| event["user"] == "bob" && event["member"] == false).await;
        }
        assert_eq!(bob.refused("join", json!({"conversation": "c"})).await, "not_found");
        ada.say("c", "still here").await;
    });
}

#[test]
fn a_deleted_conversation_is_gone_for_everybody_and_its_name_is_free() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        ada.ask("send", json!({"conversation": "c", "key": "k", "content": "old"})).await;
        bob.numbers(1).await;
        assert_eq!(change(place, "bob", "DELETE", "c").await, 403);
        assert_eq!(change(place, "ada", "DELETE", "c").await, 204);
        for (client, user) in [(&mut ada, "ada"), (&mut bob, "bob")] {
            client.event("member", |event| event["user"] == user && event["member"] == false).await;
            for (op, fields) in commands("c") {
                assert_eq!(client.refused(op, fields).await, "not_found", "{op}");
            }
        }
        ada.rest("message").await;
        // The new conversation of the same name has its own log and keys.
        let created = bob.ask("create", json!({"conversation": "c", "members": ["ada"]})).await;
        assert_eq!(created["created"], true);
        ada.event("member", |event| event["user"] == "ada" && event["member"] == true).await;
        assert_eq!(ada.join("c").await["head"], 0);
        assert_eq!(bob.join("c").await["head"], 0);
        let sent = ada.ask("send", json!({"conversation": "c", "key": "k", "content": "new"})).await;
        assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
        assert_eq!(bob.event("message", |_| true).await["content"], "new");
    });
}

/// Makes a change over HTTP as this user, on the node where Ada is not.
async fn change(place: &Place, user: &str, method: &str, path: &str) -> u16 {
    let url = format!("{}/v1/conversations/{path}", place.node(1).http_url());
    Request::new(method, &url).bearer(&place.token(user)).send().await.unwrap().status
}

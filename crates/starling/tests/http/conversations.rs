//! Conversations and their members.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::token::Token;

use crate::{admin, call, call_with, done, json_of, node, refused};

async fn create(node: &Node, token: &str, body: Value) {
    json_of(&call_with(node, token, "POST", "/v1/conversations", &body).await, 201);
}

#[tokio::test]
async fn a_conversation_is_made_shown_changed_and_deleted() {
    let node = node().await;
    let (ada, bob, eve) = (node.token("ada"), node.token("bob"), node.token("eve"));
    let body =
        json!({"conversation": "tea", "title": "Tea", "members": ["bob"], "metadata": {"a": [1, null]}});
    let response = call_with(&node, &ada, "POST", "/v1/conversations", &body).await;
    assert_eq!(json_of(&response, 201), json!({"conversation": "tea", "created": true}));
    assert_eq!(response.header("location"), Some("/v1/conversations/tea"));

    for member in [&ada, &bob] {
        let again = call_with(&node, member, "POST", "/v1/conversations", &body).await;
        assert_eq!(json_of(&again, 200), json!({"conversation": "tea", "created": false}));
    }
    refused(&call_with(&node, &eve, "POST", "/v1/conversations", &body).await, 409, "conflict");

    let path = "/v1/conversations/tea";
    let shown = json_of(&call(&node, &bob, "GET", path).await, 200);
    assert!(shown["created_at"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{shown}");
    let wanted = json!({
        "conversation": "tea", "title": "Tea", "metadata": {"a": [1, null]}, "owner": "ada",
        "created_at": shown["created_at"], "head": 0, "members": ["ada", "bob"],
    });
    assert_eq!(shown, wanted);
    refused(&call(&node, &eve, "GET", path).await, 404, "not_found");
    assert_eq!(json_of(&call(&node, &admin(&node), "GET", path).await, 200), wanted);

    let title = json!({"title": "Green tea"});
    refused(&call_with(&node, &bob, "PATCH", path, &title).await, 403, "forbidden");
    refused(&call_with(&node, &eve, "PATCH", path, &title).await, 404, "not_found");
    let changed = json_of(&call_with(&node, &ada, "PATCH", path, &title).await, 200);
    assert_eq!((&changed["title"], &changed["metadata"]), (&json!("Green tea"), &json!({"a": [1, null]})));
    let removed = json!({"title": null, "metadata": null});
    let changed = json_of(&call_with(&node, &admin(&node), "PATCH", path, &removed).await, 200);
    assert!(changed.get("title").is_none() && changed.get("metadata").is_none(), "{changed}");
    assert_eq!(json_of(&call_with(&node, &ada, "PATCH", path, &json!({})).await, 200), changed);

    refused(&call(&node, &bob, "DELETE", path).await, 403, "forbidden");
    refused(&call(&node, &eve, "DELETE", path).await, 404, "not_found");
    done(&call(&node, &ada, "DELETE", path).await);
    refused(&call(&node, &ada, "GET", path).await, 404, "not_found");
    refused(&call(&node, &ada, "DELETE", path).await, 404, "not_found");
}

#[tokio::test]
async fn a_conversation_without_a_name_is_given_one() {
    let node = node().await;
    let ada = node.token("ada");
    let made = json_of(&call_with(&node, &ada, "POST", "/v1/conversations", &json!({})).await, 201);
    let name = made["conversation"].as_str().expect("a name");
    json_of(&call(&node, &ada, "GET", &format!("/v1/conversations/{name}")).await, 200);
}

#[tokio::test]
async fn members_are_added_and_removed_by_the_owner_and_leave_by_themselves() {
    let node = node().await;
    let (ada, bob, eve) = (node.token("ada"), node.token("bob"), node.token("eve"));
    create(&node, &ada, json!({"conversation": "tea", "members": ["bob"]})).await;
    let of = |user: &str| format!("/v1/conversations/tea/members/{user}");
    for _ in 0..2 {
        let shown = json_of(&call(&node, &ada, "PUT", &of("carol")).await, 200);
        assert_eq!(shown["members"], json!(["ada", "bob", "carol"]));
    }
    refused(&call(&node, &bob, "PUT", &of("eve")).await, 403, "forbidden");
    refused(&call(&node, &eve, "PUT", &of("eve")).await, 404, "not_found");
    refused(&call(&node, &bob, "DELETE", &of("carol")).await, 403, "forbidden");
    refused(&call(&node, &eve, "DELETE", &of("carol")).await, 404, "not_found");

    let mut socket = Client::connect(&node.ws_url(), &bob, Encoding::Json).await.expect("a socket");
    socket.command("join", json!({"conversation": "tea"})).await.expect("joined");
    done(&call(&node, &bob, "DELETE", &of("bob")).await);
    let told = socket.wait_for_event("member").await.expect("told");
    assert_eq!(told, json!({"ev": "member", "conversation": "tea", "user": "bob", "member": false}));
    refused(&call(&node, &bob, "GET", "/v1/conversations/tea").await, 404, "not_found");
    refused(&call(&node, &bob, "DELETE", &of("bob")).await, 404, "not_found");

    done(&call(&node, &ada, "DELETE", &of("carol")).await);
    refused(&call(&node, &ada, "DELETE", &of("carol")).await, 404, "not_found");
    let root = admin(&node);
    json_of(&call(&node, &root, "PUT", &of("dan")).await, 200);
    done(&call(&node, &root, "DELETE", &of("dan")).await);
    refused(&call(&node, &root, "DELETE", "/v1/conversations/none/members/dan").await, 404, "not_found");
}

#[tokio::test]
async fn lists_are_paged_and_show_the_newest_activity_first() {
    let node = node().await;
    let ada = node.token("ada");
    for n in 0..7 {
        create(&node, &ada, json!({"conversation": format!("c{n}")})).await;
    }
    create(&node, &node.token("bob"), json!({"conversation": "of-bob"})).await;
    let message = json!({"key": "k", "content": "here"});
    json_of(&call_with(&node, &ada, "POST", "/v1/conversations/c2/messages", &message).await, 201);

    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/conversations?limit=3&cursor={cursor}");
        let page = json_of(&call(&node, &ada, "GET", &path).await, 200);
        let entries = page["conversations"].as_array().expect("a list");
        assert!(entries.len() <= 3 && entries.iter().all(|entry| entry.get("members").is_none()));
        names.extend(entries.iter().map(|entry| entry["conversation"].as_str().expect("a name").to_owned()));
        pages += 1;
        match &page["next"] {
            Value::Null => break,
            next => next.as_str().expect("a cursor").clone_into(&mut cursor),
        }
    }
    assert_eq!((pages, names[0].as_str()), (3, "c2"), "{names:?}");
    names.sort();
    assert_eq!(names, (0..7).map(|n| format!("c{n}")).collect::<Vec<_>>());
    let all = json_of(&call(&node, &ada, "GET", "/v1/conversations").await, 200);
    assert_eq!((all["conversations"].as_array().map(Vec::len), &all["next"]), (Some(7), &Value::Null));
    assert_eq!(all["conversations"][0]["head"], 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let node = node().await;
    let ada = node.token("ada");
    for path in [
        "/v1/conversations?limit=0",
        "/v1/conversations?limit=201",
        "/v1/conversations?limit=-1",
        "/v1/conversations?limit=ten",
        "/v1/conversations?limit=",
        "/v1/conversations?limit=1&limit=2",
        "/v1/conversations?cursor=%25",
        "/v1/conversations?cursor=bm9uc2Vuc2U",
        "/v1/conversations/a%20b",
        "/v1/conversations/a%2Fb",
        "/v1/conversations/%2E%2E",
        "/v1/conversations/%FF",
        "/v1/conversations/%C3%A4",
        &format!("/v1/conversations/{}", "a".repeat(101)),
    ] {
        refused(&call(&node, &ada, "GET", path).await, 400, "bad_request");
    }
    for body in [
        json!([]),
        json!("text"),
        json!({"conversation": "a b"}),
        json!({"conversation": ".."}),
        json!({"title": 1}),
        json!({"title": "a\u{0}b"}),
        json!({"members": "bob"}),
        json!({"members": ["a b"]}),
        json!({"metadata": [1]}),
    ] {
        refused(&call_with(&node, &ada, "POST", "/v1/conversations", &body).await, 400, "bad_request");
    }
    for body in [
        json!({"title": "t".repeat(1025)}),
        json!({"metadata": {"a": "m".repeat(16 * 1024)}}),
        json!({"members": vec!["m"; 1001]}),
    ] {
        refused(&call_with(&node, &ada, "POST", "/v1/conversations", &body).await, 413, "too_large");
    }
    let poor = Token::of("ada").scope("publish:*").sign(node.secret());
    refused(&call_with(&node, &poor, "POST", "/v1/conversations", &json!({})).await, 403, "forbidden");
    assert_eq!(
        json_of(&call(&node, &ada, "GET", "/v1/conversations").await, 200)["conversations"],
        json!([])
    );
}

//! The log of a conversation, and publications.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::token::Token;

use crate::{admin, call, call_with, json_of, node, refused};

const LOG: &str = "/v1/conversations/tea/messages";

async fn tea(node: &Node) -> String {
    let ada = node.token("ada");
    let body = json!({"conversation": "tea", "members": ["bob"]});
    json_of(&call_with(node, &ada, "POST", "/v1/conversations", &body).await, 201);
    ada
}

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|message| message["seq"].as_u64())
        .collect()
}

#[tokio::test]
async fn a_message_is_added_once_and_read_by_members() {
    let node = node().await;
    let ada = tea(&node).await;
    let body = json!({"key": "k1", "content": "Grüße", "metadata": {"n": 1.5}});
    let sent = json_of(&call_with(&node, &ada, "POST", LOG, &body).await, 201);
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
    let again =
        json_of(&call_with(&node, &ada, "POST", LOG, &json!({"key": "k1", "content": "other"})).await, 200);
    assert_eq!(again, json!({"id": sent["id"], "seq": 1, "at": sent["at"], "duplicate": true}));
    // Keys are separate for each sender.
    let bobs = json_of(&call_with(&node, &node.token("bob"), "POST", LOG, &body).await, 201);
    assert_eq!(bobs["seq"], 2);

    let page = json_of(&call(&node, &node.token("bob"), "GET", LOG).await, 200);
    assert_eq!(page["more"], false);
    let first = json!({
        "conversation": "tea", "seq": 1, "id": sent["id"], "sender": "ada", "role": "user",
        "content": "Grüße", "metadata": {"n": 1.5}, "at": sent["at"],
    });
    assert_eq!(page["messages"][0], first);
    refused(&call(&node, &node.token("eve"), "GET", LOG).await, 404, "not_found");
    refused(&call_with(&node, &node.token("eve"), "POST", LOG, &body).await, 404, "not_found");
    assert_eq!(seqs(&json_of(&call(&node, &admin(&node), "GET", LOG).await, 200)), [1, 2]);
}

#[tokio::test]
async fn the_log_is_read_from_either_end() {
    let node = node().await;
    let ada = tea(&node).await;
    for n in 1..=60 {
        let body = json!({"key": format!("k{n}"), "content": format!("message {n}")});
        json_of(&call_with(&node, &ada, "POST", LOG, &body).await, 201);
    }
    for (query, wanted, more) in [
        ("", 11..=60, true),
        ("?limit=60", 1..=60, false),
        ("?limit=200", 1..=60, false),
        ("?limit=2", 59..=60, true),
        ("?before=4", 1..=3, false),
        ("?before=60&limit=5", 55..=59, true),
        ("?after=0&limit=3", 1..=3, true),
        ("?after=57", 58..=60, false),
    ] {
        let page = json_of(&call(&node, &ada, "GET", &format!("{LOG}{query}")).await, 200);
        assert_eq!(seqs(&page), wanted.collect::<Vec<u64>>(), "{query}");
        assert_eq!(page["more"], more, "{query}");
    }
    for query in ["?after=60", "?before=1", "?before=0", "?after=9007199254740991"] {
        let page = json_of(&call(&node, &ada, "GET", &format!("{LOG}{query}")).await, 200);
        assert_eq!((seqs(&page), &page["more"]), (vec![], &json!(false)), "{query}");
    }
    for query in [
        "?before=2&after=1",
        "?after=-1",
        "?after=x",
        "?before=9007199254740992",
        "?limit=0",
        "?limit=201",
        "?after=1.5",
    ] {
        refused(&call(&node, &ada, "GET", &format!("{LOG}{query}")).await, 400, "bad_request");
    }
}

#[tokio::test]
async fn a_message_by_http_reaches_sockets() {
    let node = node().await;
    let ada = tea(&node).await;
    let mut bob =
        Client::connect(&node.ws_url(), &node.token("bob"), Encoding::MessagePack).await.expect("a socket");
    bob.command("join", json!({"conversation": "tea"})).await.expect("joined");
    let sent =
        json_of(&call_with(&node, &ada, "POST", LOG, &json!({"key": "k", "content": "hi"})).await, 201);
    let event = bob.wait_for_event("message").await.expect("the event");
    assert_eq!(
        (&event["id"], &event["content"], &event["sender"]),
        (&sent["id"], &json!("hi"), &json!("ada"))
    );
}

#[tokio::test]
async fn administrators_post_under_any_name_and_role_and_nobody_else_does() {
    let node = node().await;
    let ada = tea(&node).await;
    let root = admin(&node);
    let body = json!({"key": "k", "content": "Beep.", "sender": "robot", "role": "assistant"});
    json_of(&call_with(&node, &root, "POST", LOG, &body).await, 201);
    json_of(&call_with(&node, &root, "POST", LOG, &json!({"key": "k", "content": "I, root."})).await, 201);
    json_of(&call_with(&node, &root, "POST", LOG, &body).await, 200);
    let page = json_of(&call(&node, &ada, "GET", LOG).await, 200);
    let spoke: Vec<_> = page["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|message| (&message["sender"], &message["role"]))
        .collect();
    assert_eq!(spoke, [(&json!("robot"), &json!("assistant")), (&json!("root"), &json!("user"))]);

    for field in ["sender", "role"] {
        let body =
            json!({"key": "k2", "content": "x", field: if field == "role" { "system" } else { "bob" }});
        refused(&call_with(&node, &ada, "POST", LOG, &body).await, 403, "forbidden");
    }
    for field in [json!({"role": "owner"}), json!({"sender": "a b"}), json!({"role": 1})] {
        let mut body = json!({"key": "k3", "content": "x"});
        body.as_object_mut().expect("an object").extend(field.as_object().expect("an object").clone());
        refused(&call_with(&node, &root, "POST", LOG, &body).await, 400, "bad_request");
    }
    refused(
        &call_with(&node, &root, "POST", "/v1/conversations/none/messages", &body).await,
        404,
        "not_found",
    );
    // An administrator may read and post without becoming a member.
    let shown = json_of(&call(&node, &ada, "GET", "/v1/conversations/tea").await, 200);
    assert_eq!(shown["members"], json!(["ada", "bob"]));
}

#[tokio::test]
async fn sizes_and_fields_of_messages_are_checked() {
    let node = node().await;
    let ada = tea(&node).await;
    let most = json!({"key": "a".repeat(64), "content": "c".repeat(64 * 1024)});
    json_of(&call_with(&node, &ada, "POST", LOG, &most).await, 201);
    for body in [
        json!({"key": "k", "content": "c".repeat(64 * 1024 + 1)}),
        json!({"key": "k", "content": "x", "metadata": {"m": "m".repeat(16 * 1024)}}),
    ] {
        refused(&call_with(&node, &ada, "POST", LOG, &body).await, 413, "too_large");
    }
    for body in [
        json!({}),
        json!({"content": "x"}),
        json!({"key": "k"}),
        json!({"key": "", "content": "x"}),
        json!({"key": "a".repeat(65), "content": "x"}),
        json!({"key": 1, "content": "x"}),
        json!({"key": "k", "content": null}),
        json!({"key": "k", "content": "\u{0}"}),
        json!({"key": "k", "content": "x", "metadata": "m"}),
    ] {
        refused(&call_with(&node, &ada, "POST", LOG, &body).await, 400, "bad_request");
    }
    assert_eq!(seqs(&json_of(&call(&node, &ada, "GET", LOG).await, 200)), [1]);
}

#[tokio::test]
async fn who_writes_too_often_is_told_when_to_come_back() {
    let builder = Node::builder().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "3");
    let node = builder.start().await.expect("a node");
    let ada = tea(&node).await;
    let mut limited = None;
    for n in 0..4 {
        let body = json!({"key": format!("k{n}"), "content": "x"});
        let response = call_with(&node, &ada, "POST", LOG, &body).await;
        if response.status == 429 {
            limited = Some(response);
            break;
        }
    }
    let response = limited.expect("a refusal");
    let body = refused(&response, 429, "rate_limited");
    let ms = body["error"]["retry_after_ms"].as_u64().expect("a time");
    assert!((1..=60_000).contains(&ms), "{ms}");
    assert_eq!(response.header("retry-after"), Some(ms.div_ceil(1000).to_string().as_str()));
    // Other users are unaffected.
    json_of(
        &call_with(&node, &node.token("bob"), "POST", LOG, &json!({"key": "k", "content": "x"})).await,
        201,
    );
}

#[tokio::test]
async fn publications_reach_subscribers_where_the_token_allows() {
    let node = node().await;
    let path = "/v1/topics/prices:bread/publications";
    let mut bob =
        Client::connect(&node.ws_url(), &node.token("bob"), Encoding::Json).await.expect("a socket");
    bob.command("subscribe", json!({"topic": "prices:bread"})).await.expect("subscribed");
    for (offset, data) in [json!({"eur": 3.2}), json!([1, "two", null]), json!(true)].into_iter().enumerate()
    {
        let body = json!({ "data": data });
        let published = json_of(&call_with(&node, &node.token("ada"), "POST", path, &body).await, 201);
        assert_eq!(published["offset"], offset + 1);
        assert!(published["epoch"].is_string());
        let event = bob.wait_for_event("publication").await.expect("the event");
        assert_eq!((&event["data"], &event["offset"]), (&data, &published["offset"]));
    }
    for (scope, status) in [("publish:prices:*", 201), ("publish:prices:bread", 201), ("admin", 201)] {
        let token = Token::of("carol").scope(scope).sign(node.secret());
        assert_eq!(
            call_with(&node, &token, "POST", path, &json!({"data": 1})).await.status,
            status,
            "{scope}"
        );
    }
    for scope in ["publish:prices:milk", "subscribe:*", "conversations:create", ""] {
        let token = Token::of("carol").scope(scope).sign(node.secret());
        refused(&call_with(&node, &token, "POST", path, &json!({"data": 1})).await, 403, "forbidden");
    }
    let ada = node.token("ada");
    refused(&call_with(&node, &ada, "POST", path, &json!({})).await, 400, "bad_request");
    let large = json!({"data": "d".repeat(64 * 1024)});
    refused(&call_with(&node, &ada, "POST", path, &large).await, 413, "too_large");
    refused(
        &call_with(&node, &ada, "POST", "/v1/topics/a%20b/publications", &json!({"data": 1})).await,
        400,
        "bad_request",
    );
}

//! Nodes, sessions and presence.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::{admin, call, call_with, done, json_of, node, refused};

const SOON: Duration = Duration::from_secs(10);

async fn socket(node: &Node, user: &str) -> Client {
    Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await.expect("a socket")
}

fn session(client: &Client) -> String {
    client.welcome()["session"].as_str().expect("a session").to_owned()
}

#[tokio::test]
async fn nodes_say_what_they_do() {
    let builder = Node::builder().unlimited().name("heron").env("STARLING_ADDRESS", "heron.example:8080");
    let node = builder.start().await.expect("a node");
    let _ada = socket(&node, "ada").await;
    let root = admin(&node);
    until_true(SOON, "the connection to be counted", async || {
        let page = json_of(&call(&node, &root, "GET", "/v1/nodes").await, 200);
        assert_eq!((page["nodes"].as_array().map(Vec::len), &page["next"]), (Some(1), &Value::Null));
        Ok(page["nodes"][0]["connections"] == 1 && page["nodes"][0]["sessions"] == 1)
    })
    .await
    .expect("counted");
    let shown = json_of(&call(&node, &root, "GET", "/v1/nodes?limit=1").await, 200)["nodes"][0].clone();
    assert_eq!((&shown["node"], &shown["address"]), (&json!("heron"), &json!("heron.example:8080")));
    assert_eq!(shown["draining"], false);
    assert!(shown["version"].is_string() && shown["started_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    for figure in ["messages", "deliveries", "delivery_p50_us", "delivery_p99_us"] {
        assert!(shown[figure].is_u64(), "{figure}: {shown}");
    }
    refused(&call(&node, &root, "GET", "/v1/nodes?limit=0").await, 400, "bad_request");
}

#[tokio::test]
async fn a_cursor_tells_an_administrator_nothing_of_other_tenants() {
    let node = node().await;
    let mut sockets = Vec::new();
    for n in 0..12 {
        let tenant = if n % 3 == 0 { "acme" } else { "rival" };
        let token = Token::of("ada").tenant(tenant).sign(node.secret());
        let socket = Client::connect(&node.ws_url(), &token, Encoding::Json).await.expect("a socket");
        sockets.push((tenant, socket));
    }
    for own in ["acme", "rival"] {
        let root = Token::of("root").tenant(own).scope("admin").sign(node.secret());
        let (mut listed, mut cursor) = (0, String::new());
        loop {
            let path = format!("/v1/sessions?limit=1&cursor={cursor}");
            let page = json_of(&call(&node, &root, "GET", &path).await, 200);
            listed += page["sessions"].as_array().expect("a list").len();
            let Some(next) = page["next"].as_str() else { break };
            let inside = URL_SAFE_NO_PAD.decode(next).expect("base64");
            let inside = String::from_utf8_lossy(&inside).into_owned();
            for (tenant, socket) in &sockets {
                assert!(*tenant == own || !inside.contains(&session(socket)), "{own} is shown {inside}");
            }
            next.clone_into(&mut cursor);
        }
        assert_eq!(listed, sockets.iter().filter(|(tenant, _)| *tenant == own).count());
    }
}

#[tokio::test]
async fn sessions_are_listed_by_page_and_by_user() {
    let node = node().await;
    let root = admin(&node);
    let mut sockets = Vec::new();
    for user in ["ada", "ada", "bob", "carol", "dan"] {
        sockets.push(socket(&node, user).await);
    }
    let acme = Token::of("ada").tenant("acme").sign(node.secret());
    let _other = Client::connect(&node.ws_url(), &acme, Encoding::Json).await.expect("a socket");
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/sessions?limit=2&cursor={cursor}");
        let page = json_of(&call(&node, &root, "GET", &path).await, 200);
        let entries = page["sessions"].as_array().expect("a list");
        assert!(entries.len() <= 2);
        listed.extend(entries.iter().map(|entry| entry["session"].as_str().expect("an id").to_owned()));
        match &page["next"] {
            Value::Null => break,
            next => next.as_str().expect("a cursor").clone_into(&mut cursor),
        }
    }
    let mut wanted: Vec<String> = sockets.iter().map(session).collect();
    listed.sort();
    wanted.sort();
    assert_eq!(listed, wanted);

    let of_ada = json_of(&call(&node, &root, "GET", "/v1/sessions?user=ada").await, 200);
    let entries = of_ada["sessions"].as_array().expect("a list");
    assert_eq!((entries.len(), &of_ada["next"]), (2, &Value::Null));
    for entry in entries {
        assert_eq!((&entry["user"], &entry["attached"]), (&json!("ada"), &json!(true)));
        assert_eq!(entry["node"], node.name());
        assert!(entry["created_at"].is_string());
    }
    assert_eq!(
        json_of(&call(&node, &root, "GET", "/v1/sessions?user=nobody").await, 200)["sessions"],
        json!([])
    );
    // Neither an invalid cursor nor the cursor of another list starts at the first page again.
    for query in
        ["?user=a%20b", "?limit=201", "?cursor=%25", "?cursor=bm9uc2Vuc2U", "?user=ada&cursor=bm9uc2Vuc2U"]
    {
        refused(&call(&node, &root, "GET", &format!("/v1/sessions{query}")).await, 400, "bad_request");
    }
}

#[tokio::test]
async fn an_operator_ends_a_session_for_good() {
    let node = node().await;
    let root = admin(&node);
    let mut ada = socket(&node, "ada").await;
    let welcome = ada.welcome().clone();
    let path = format!("/v1/sessions/{}", session(&ada));
    let foreign = Token::of("root").tenant("acme").scope("admin").sign(node.secret());
    refused(&call(&node, &foreign, "DELETE", &path).await, 404, "not_found");
    ada.command("ping", Value::Null).await.expect("still there");

    done(&call(&node, &root, "DELETE", &path).await);
    assert_eq!(ada.closed(SOON).await.expect("closed").code, Some(4410));
    assert_eq!(
        json_of(&call(&node, &root, "GET", "/v1/sessions?user=ada").await, 200)["sessions"],
        json!([])
    );
    // An operator repeats the request because the response was lost.
    done(&call(&node, &root, "DELETE", &path).await);
    refused(&call(&node, &root, "DELETE", "/v1/sessions/none").await, 404, "not_found");

    let resume = json!({"session": welcome["session"], "ticket": welcome["ticket"], "cursors": {}});
    let back =
        Client::resume(&node.ws_url(), &node.token("ada"), Encoding::Json, resume).await.expect("a socket");
    assert_eq!(back.welcome()["resumed"], false);
}

#[tokio::test]
async fn presence_is_shown_to_those_who_share_a_conversation() {
    let node = node().await;
    let ada = node.token("ada");
    let tea = json!({"conversation": "tea", "members": ["bob"]});
    json_of(&call_with(&node, &ada, "POST", "/v1/conversations", &tea).await, 201);
    let path = "/v1/users/bob/presence";
    let away = json!({"user": "bob", "online": false, "devices": 0});
    assert_eq!(json_of(&call(&node, &ada, "GET", path).await, 200), away);
    refused(&call(&node, &node.token("eve"), "GET", path).await, 404, "not_found");
    refused(&call(&node, &ada, "GET", "/v1/users/nobody/presence").await, 404, "not_found");
    refused(&call(&node, &ada, "GET", "/v1/users/a%20b/presence").await, 400, "bad_request");

    let (phone, laptop) = (socket(&node, "bob").await, socket(&node, "bob").await);
    for token in [&ada, &admin(&node), &node.token("bob")] {
        let shown = json_of(&call(&node, token, "GET", path).await, 200);
        assert_eq!(shown, json!({"user": "bob", "online": true, "devices": 2}));
    }
    phone.close().await.expect("closed");
    laptop.close().await.expect("closed");
    until_true(Duration::from_secs(30), "bob to be away, with a time", async || {
        let shown = json_of(&call(&node, &ada, "GET", path).await, 200);
        Ok(shown["online"] == false && shown["last_seen"].is_string())
    })
    .await
    .expect("away");
}

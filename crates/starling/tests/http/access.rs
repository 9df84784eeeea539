//! Access: tokens, tenants and permissions.

use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::token::{Token, forge_claims};

use crate::{admin, call, call_with, json_of, node, refused};

/// Returns every (method, path, operation) in a node's description.
async fn operations(node: &Node) -> Vec<(String, String, Value)> {
    let document = node.get("/openapi.json").await.expect("an answer").json().expect("JSON");
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        // A valid name for each parameter.
        let path = path.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
        let path = path.collect::<Vec<_>>().join("some");
        for (method, operation) in methods.as_object().expect("methods") {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    assert!(found.len() >= 16, "{found:?}");
    found
}

#[tokio::test]
async fn no_call_is_answered_without_a_good_token() {
    let node = node().await;
    let good = node.token("ada");
    let bad = [
        String::new(),
        "nonsense".to_owned(),
        Token::of("ada").unsigned(),
        Token::of("ada").sign("another secret, long enough for HS256"),
        Token::of("ada").expired_for(Duration::from_secs(60)).sign(node.secret()),
        Token::of("a\tb").sign(node.secret()),
        Token::of("ada").without("exp").sign(node.secret()),
        forge_claims(&good, &json!({"sub": "root", "scope": "admin", "exp": 4_000_000_000_u64})),
    ];
    for (method, path, operation) in operations(&node).await {
        if operation.get("security").is_none() {
            continue;
        }
        let bare =
            Request::new(&method, &format!("{}{path}", node.http_url())).send().await.expect("an answer");
        refused(&bare, 401, "unauthorized");
        let response = call(&node, &bad[3], &method, &path).await;
        assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{method} {path}");
    }
    for token in &bad {
        refused(&call(&node, token, "GET", "/v1/conversations").await, 401, "unauthorized");
    }
    let basic = Request::new("GET", &format!("{}/v1/conversations", node.http_url()));
    let basic = basic.header("authorization", "Basic YWRhOmFkYQ==").send().await.expect("an answer");
    refused(&basic, 401, "unauthorized");
    json_of(&call(&node, &good, "GET", "/v1/conversations").await, 200);
}

#[tokio::test]
async fn what_is_for_operators_needs_the_scope() {
    let node = node().await;
    let mut seen = 0;
    for (method, path, operation) in operations(&node).await {
        if operation["tags"][0] == "operation" {
            refused(&call(&node, &node.token("ada"), &method, &path).await, 403, "forbidden");
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn every_described_path_is_there_and_names_its_methods() {
    let node = node().await;
    let root = admin(&node);
    for (method, path, _) in operations(&node).await {
        let response = call(&node, &root, "BREW", &path).await;
        refused(&response, 405, "bad_request");
        let allowed = response.header("allow").expect("Allow").to_owned();
        assert!(allowed.split(',').any(|allowed| allowed.trim() == method), "{method} {path}: {allowed}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_for_one_look_the_same() {
    let node = node().await;
    json_of(
        &call_with(&node, &node.token("ada"), "POST", "/v1/conversations", &json!({"conversation": "tea"}))
            .await,
        201,
    );
    let eve = node.token("eve");
    let message = json!({"key": "k", "content": "x"});
    for (method, rest) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("PUT", "/members/eve"),
        ("DELETE", "/members/ada"),
        ("DELETE", "/members/eve"),
        ("GET", "/messages"),
        ("POST", "/messages"),
    ] {
        let mut answers = Vec::new();
        for name in ["tea", "none"] {
            let path = format!("/v1/conversations/{name}{rest}");
            let response = call_with(&node, &eve, method, &path, &message).await;
            answers.push(refused(&response, 404, "not_found"));
        }
        assert_eq!(answers[0], answers[1], "{method} {rest}");
    }
}

#[tokio::test]
async fn no_name_reaches_across_tenants() {
    let node = node().await;
    let ours = node.token("ada");
    let theirs = Token::of("ada").tenant("acme").sign(node.secret());
    let their_admin = Token::of("root").tenant("acme").scope("admin").sign(node.secret());
    let body = json!({"conversation": "tea", "title": "ours", "members": ["bob"]});
    json_of(&call_with(&node, &ours, "POST", "/v1/conversations", &body).await, 201);

    let path = "/v1/conversations/tea";
    for token in [&theirs, &their_admin] {
        refused(&call(&node, token, "GET", path).await, 404, "not_found");
        refused(&call(&node, token, "GET", &format!("{path}/messages")).await, 404, "not_found");
        refused(&call(&node, token, "DELETE", path).await, 404, "not_found");
        refused(&call(&node, token, "PUT", &format!("{path}/members/mallory")).await, 404, "not_found");
    }
    refused(&call(&node, &theirs, "GET", "/v1/users/bob/presence").await, 404, "not_found");
    assert_eq!(
        json_of(&call(&node, &theirs, "GET", "/v1/conversations").await, 200)["conversations"],
        json!([])
    );

    let body = json!({"conversation": "tea", "title": "theirs"});
    json_of(&call_with(&node, &theirs, "POST", "/v1/conversations", &body).await, 201);
    assert_eq!(json_of(&call(&node, &theirs, "GET", path).await, 200)["title"], "theirs");
    assert_eq!(json_of(&call(&node, &ours, "GET", path).await, 200)["title"], "ours");
    crate::done(&call(&node, &their_admin, "DELETE", path).await);
    assert_eq!(json_of(&call(&node, &ours, "GET", path).await, 200)["title"], "ours");
}

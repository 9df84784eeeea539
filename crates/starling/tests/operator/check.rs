//! `starling check`, the way of a client through what stands before the nodes.

use starling_testkit::balancer::Balancer;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node, NodeBuilder};
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::tls::Certificates;
use crate::{BAD, SOON, finished};

/// The steps of a check without TLS, in order.
const STEPS: [&str; 9] =
    ["connect", "upgrade", "session", "create", "send", "receive", "again", "read", "clean up"];

fn checking(url: &str) -> NodeBuilder {
    Node::builder().arg("check").arg("--url").arg(url)
}

/// The steps that succeeded.
fn steps(shown: &str) -> Vec<&str> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix("  ✓ "));
    lines.map(|line| line.split("  ").next().unwrap_or_default().trim()).collect()
}

/// The names of the conversations that a user is a member of.
async fn conversations(node: &Node, token: &str) -> Vec<String> {
    let request = Request::new("GET", &format!("{}/v1/conversations", node.http_url())).bearer(token);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json().unwrap();
    let list = list["conversations"].as_array().expect("a list").clone();
    list.iter().map(|one| one["conversation"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn a_message_goes_all_the_way_and_nothing_is_left() {
    let node = Node::start().await.unwrap();
    let own = Node::builder().arg("check").env("STARLING_LISTEN", &node.address().to_string());
    let (status, shown) = finished(own).await;
    assert_eq!((status, steps(&shown)), (0, STEPS.to_vec()), "{shown}");
    assert!(shown.contains(&format!("starling-check of default, on {}", node.name())), "{shown}");
    assert!(shown.lines().all(|line| !line.starts_with("  ✓") || line.ends_with(" ms")), "{shown}");
    assert!(!shown.contains('\x1b'), "colours in a file: {shown}");
    assert!(conversations(&node, &node.token("starling-check")).await.is_empty());
    // The message was committed.
    assert_eq!(node.metric("starling_messages_committed_total", "").await.unwrap(), 1.0);
}

#[tokio::test]
async fn a_check_through_a_load_balancer_needs_no_secret_but_a_token() {
    let cluster = Cluster::start(2).await.unwrap();
    let addresses: Vec<_> = cluster.nodes().iter().map(Node::address).collect();
    let balancer = Balancer::start(&addresses).await.unwrap();
    let token = Token::of("ops").tenant("acme").sign(cluster.node(0).secret());
    let check =
        checking(&balancer.http_url()).secret("").arg("--token-file").arg("token").file("token", &token);
    let (status, shown) = finished(check).await;
    assert_eq!((status, steps(&shown)), (0, STEPS.to_vec()), "{shown}");
    assert!(shown.contains("ops of acme, on ") && !shown.contains(&token), "{shown}");
    assert!(conversations(cluster.node(0), &token).await.is_empty());
}

#[tokio::test]
async fn a_check_over_tls_trusts_the_authority_that_is_named() {
    let certificates = Certificates::make().await;
    let node = certificates.node().without_waiting().start().await.unwrap();
    until_true(SOON, "the start", async || Ok(node.log().contains("serving"))).await.unwrap();
    let url = format!("wss://{}", node.address());
    let (status, shown) = finished(checking(&url)).await;
    assert!(status == 1 && steps(&shown) == ["connect"], "{status}: {shown}");
    assert!(shown.contains("tls: ") && shown.contains("set SSL_CERT_FILE"), "{shown}");
    let trusting = checking(&url).file("ca.pem", &certificates.authority).env("SSL_CERT_FILE", "ca.pem");
    let (status, shown) = finished(trusting).await;
    assert!(status == 0 && steps(&shown).contains(&"tls"), "{status}: {shown}");
}

#[tokio::test]
async fn what_goes_wrong_is_named_with_what_to_do() {
    let node = Node::start().await.unwrap();
    let stranger = Token::of("ops").sign("another secret, which is long enough, too");
    let narrow = Token::of("ops").scope("").sign(node.secret());
    let gone = Node::start().await.unwrap();
    let nowhere = gone.ws_url();
    gone.kill().await.unwrap();
    let metrics = format!("ws://{}", node.metrics_address());
    for (check, done, named, advice) in [
        (checking(&nowhere), 0, "connect: ", "nothing listens there"),
        (checking(&metrics), 1, "upgrade: the answer was HTTP 404", "pass /v1/ws on"),
        (
            checking(&format!("{}/chat", node.http_url())),
            1,
            "upgrade: the answer was HTTP 404",
            "pass /v1/ws on",
        ),
        (
            checking(&node.ws_url()).arg("--token").arg(&stranger),
            2,
            "session: unauthorized",
            "another secret",
        ),
        (
            checking(&node.ws_url()).arg("--token").arg(&narrow),
            4,
            "create: forbidden",
            "scope conversations:create",
        ),
    ] {
        let (status, shown) = finished(check).await;
        assert_eq!((status, steps(&shown).len()), (1, done), "{shown}");
        assert!(shown.contains(named) && shown.contains(advice), "neither {named} nor {advice}: {shown}");
        assert!(!shown.contains("panicked") && !shown.contains(&stranger), "{shown}");
    }
}

#[tokio::test]
async fn after_a_failure_the_conversation_is_deleted_all_the_same() {
    let node = Node::builder().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "3").start().await.unwrap();
    // What an admin deletes over HTTP is not counted. A conversation and a message leave one write for the check.
    let token = Token::of("ops").scope("conversations:create admin").sign(node.secret());
    let mut ops = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
    ops.command("create", serde_json::json!({"conversation": "tea"})).await.unwrap();
    let message = serde_json::json!({"conversation": "tea", "key": "k", "content": "the second write"});
    ops.command("send", message).await.unwrap();
    let (status, shown) = finished(checking(&node.ws_url()).arg("--token").arg(&token)).await;
    assert_eq!(
        (status, steps(&shown)),
        (1, vec!["connect", "upgrade", "session", "create", "clean up"]),
        "{shown}"
    );
    assert!(shown.contains("send: rate_limited"), "{shown}");
    assert_eq!(conversations(&node, &token).await, ["tea"]);
}

#[tokio::test]
async fn a_check_without_a_token_or_with_a_strange_url_is_bad_usage() {
    let nobody =
        checking("ws://127.0.0.1:1").secret("").env("STARLING_JWT_JWKS_URL", "https://id.example/keys");
    let nobody = nobody.env("STARLING_JWT_ALGORITHM", "RS256");
    for (check, named) in [
        (nobody, "--token-file"),
        (checking("127.0.0.1:1"), "--url: "),
        (checking("ws://127.0.0.1:1").arg("--token-file").arg("missing"), "--token-file: missing: "),
        (checking("ws://127.0.0.1:1").arg("--token-file").arg("empty").file("empty", "\n"), "is empty"),
        (checking("ws://127.0.0.1:1").arg("--token").arg(""), "--token: is empty"),
        (checking("ws://127.0.0.1:1").arg("--tenant").arg("no name"), "--tenant: "),
    ] {
        let (status, shown) = finished(check).await;
        assert!(status == BAD && shown.contains(named), "{status}, no {named}: {shown}");
    }
}

//! Roles: a node that takes no clients, and lists of roles that can't be used.

use serde_json::json;
use starling_testkit::http::{self, Request, Response};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::Postgres;
use starling_testkit::process::Signal;
use starling_testkit::redis::Redis;
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;
use tokio::net::TcpStream;

use crate::{BAD, SOON, finished};

/// `GET` on a path of the metrics port.
async fn probe(node: &Node, path: &str) -> anyhow::Result<Response> {
    http::get(&format!("http://{}{path}", node.metrics_address())).await
}

/// Starts a worker, and waits until it is ready.
pub async fn worker(builder: NodeBuilder) -> Node {
    let node = builder.env("STARLING_ROLES", "worker").without_waiting().start().await.unwrap();
    let ready = async || {
        anyhow::ensure!(node.is_running(), "the node has ended: {}", node.log());
        Ok(probe(&node, "/ready").await?.status == 200)
    };
    until_true(SOON, "the worker", ready).await.unwrap();
    node
}

#[tokio::test]
async fn a_worker_alone_answers_probes_opens_no_public_port_and_ends_well() {
    let node = worker(Node::builder().secret("")).await;
    let health = probe(&node, "/health").await.unwrap();
    assert_eq!(health.status, 200);
    let health = health.json().unwrap();
    assert_eq!((&health["status"], &health["roles"]), (&json!("ok"), &json!(["worker"])), "{health}");
    assert_eq!((&health["node"], &health["draining"]), (&json!(node.name()), &json!(false)), "{health}");
    assert_eq!(
        (&health["database"]["status"], &health["redis"]["status"]),
        (&json!("up"), &json!("not_configured"))
    );
    assert_eq!(probe(&node, "/metrics").await.unwrap().status, 200);
    assert!(TcpStream::connect(node.address()).await.is_err(), "the public port is open");
    // Nobody shows a token to a worker, so it makes no secret.
    assert!(!node.folder().join("data/starling.secret").exists());
    node.signal(Signal::TERM).unwrap();
    let status = node.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(node.log().contains("drained"), "{}", node.log());
}

#[tokio::test]
async fn a_node_of_every_role_and_a_gateway_alone_take_clients() {
    for roles in ["gateway", "worker, gateway"] {
        let node = Node::builder().arg("--roles").arg(roles).start().await.unwrap();
        assert_eq!(node.get("/health").await.unwrap().status, 200);
        assert_eq!(probe(&node, "/health").await.unwrap().status, 404, "it is asked at the public port");
    }
}

#[tokio::test]
async fn a_list_of_roles_that_can_not_be_used_is_named() {
    for (node, named) in [
        (
            Node::builder().env("STARLING_ROLES", "gateway,jobs"),
            "roles: `jobs` is not a role; the roles are gateway,worker (set by STARLING_ROLES)",
        ),
        (Node::builder().arg("--roles").arg(""), "roles: names no role"),
        (Node::builder().env("STARLING_ROLES", ","), "roles: names no role"),
    ] {
        let (status, log) = finished(node).await;
        assert!(status == BAD && log.contains(named), "{status}: {log}");
    }
    let empty = Node::builder().file("starling.toml", "roles = []").arg("--config").arg("starling.toml");
    let (status, log) = finished(empty).await;
    assert!(status == BAD && log.contains("roles: names no role"), "{status}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_one_of_the_nodes_and_can_be_drained_by_an_operator() {
    let redis = Redis::start().await.unwrap();
    let database = Postgres::shared().await.unwrap().create_database("roles").await.unwrap();
    let builder = || Node::builder().redis(&redis.url()).database(&database);
    let gateway = builder().start().await.unwrap();
    let worker = worker(builder()).await;
    let admin = Token::of("ann").scope("admin operate").sign(gateway.secret());
    let url = format!("{}/v1/nodes", gateway.http_url());
    let is_listed = async || {
        let nodes = Request::new("GET", &url).bearer(&admin).send().await?.json()?;
        let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
        Ok(nodes.iter().any(|node| node["node"] == worker.name()))
    };
    until_true(SOON, "the worker in the list", is_listed).await.unwrap();
    let drain = Request::new("POST", &format!("{url}/{}/drain", worker.name())).bearer(&admin);
    assert_eq!(drain.send().await.unwrap().status, 202);
    let status = worker.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    until_true(SOON, "the worker to leave", async || Ok(!is_listed().await?)).await.unwrap();
}

//! `starling healthcheck`, as a container's probe runs it beside the node.

use std::time::Instant;

use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::wait::until_true;

use crate::roles::worker;
use crate::tls::Certificates;
use crate::{BAD, SOON, finished};

/// The command, with the addresses of this node.
fn asking(node: &Node) -> NodeBuilder {
    Node::builder()
        .arg("healthcheck")
        .env("STARLING_LISTEN", &node.address().to_string())
        .env("STARLING_METRICS_LISTEN", &node.metrics_address().to_string())
}

#[tokio::test]
async fn a_node_that_works_is_healthy_until_it_has_ended() {
    let node = Node::start().await.unwrap();
    let healthy = format!("healthy: {} says ok\n", node.name());
    assert_eq!(finished(asking(&node)).await, (0, healthy));
    assert_eq!(finished(asking(&node).arg("--ready")).await, (0, "ready\n".to_owned()));
    node.kill().await.unwrap();
    for arguments in [&[][..], &["--ready"]] {
        let (status, line) =
            finished(arguments.iter().fold(asking(&node), |node, word| node.arg(word))).await;
        assert!(status == 1 && line.contains("no node answers"), "{status}: {line}");
        assert!(line.lines().count() == 1 && line.contains(&node.address().to_string()), "{line}");
    }
}

#[tokio::test]
async fn a_node_that_drains_is_healthy_and_not_ready() {
    let node = Node::builder().env("STARLING_DRAIN_SECONDS", "30").start().await.unwrap();
    let other = Client::connect(&node.ws_url(), &node.token("ann"), Encoding::Json).await.unwrap();
    node.begin_termination().unwrap();
    until_true(SOON, "the drain", async || Ok(node.get("/ready").await?.status == 503)).await.unwrap();
    let (status, line) = finished(asking(&node)).await;
    assert!(status == 0 && line.starts_with("healthy: "), "{status}: {line}");
    let (status, line) = finished(asking(&node).arg("--ready")).await;
    assert!(status == 1 && line.ends_with("/ready: not ready: draining\n"), "{status}: {line}");
    drop(other);
}

#[tokio::test]
async fn a_node_that_is_stopped_is_not_waited_for() {
    let node = Node::start().await.unwrap();
    node.stop().unwrap();
    let began = Instant::now();
    let (status, line) = finished(asking(&node)).await;
    assert!(status == 1 && line.contains("no answer within 4 s"), "{status}: {line}");
    assert!(began.elapsed() < SOON);
    node.resume().unwrap();
}

#[tokio::test]
async fn a_worker_is_asked_at_its_metrics_port() {
    let node = worker(Node::builder()).await;
    let asking = || asking(&node).env("STARLING_ROLES", "worker");
    assert_eq!(finished(asking()).await, (0, format!("healthy: {} says ok\n", node.name())));
    assert_eq!(finished(asking().arg("--ready")).await, (0, "ready\n".to_owned()));
    // Its public port does not exist.
    let (status, line) = finished(asking().env("STARLING_ROLES", "gateway")).await;
    assert!(status == 1 && line.contains("no node answers"), "{status}: {line}");
}

#[tokio::test]
async fn a_node_with_tls_is_asked_over_tls_whatever_its_certificate_names() {
    let certificates = Certificates::make().await;
    let node = certificates.node().without_waiting().start().await.unwrap();
    until_true(SOON, "the start", async || Ok(node.log().contains("serving"))).await.unwrap();
    let secure = || {
        asking(&node)
            .env("STARLING_TLS_CERTIFICATE_FILE", "server.crt")
            .env("STARLING_TLS_KEY_FILE", "server.key")
    };
    let (status, line) = finished(secure()).await;
    assert!(status == 0 && line.starts_with("healthy: "), "{status}: {line}");
    // In the clear nothing is to be heard from it.
    let (status, line) = finished(asking(&node)).await;
    assert_eq!(status, 1, "{line}");
}

#[tokio::test]
async fn something_else_that_answers_is_no_node() {
    let node = Node::start().await.unwrap();
    // The metrics port of a node with a public port knows no probes.
    let elsewhere = asking(&node).env("STARLING_LISTEN", &node.metrics_address().to_string());
    let (status, line) = finished(elsewhere).await;
    assert!(status == 1 && line.contains("has status 404 and is not a node's"), "{status}: {line}");
    let (status, line) = finished(asking(&node).env("STARLING_LISTEN", "127.0.0.1:0")).await;
    assert!(status == BAD && line.contains("listen: port 0"), "{status}: {line}");
}

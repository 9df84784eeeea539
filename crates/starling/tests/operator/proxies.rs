//! Load balancers that forward client addresses.

use starling_testkit::client::{Client, Failure, Upgrade};
use starling_testkit::node::Node;
use starling_testkit::wait::{until, until_true};

use crate::{BAD, SOON, finished};

/// Starts a node that allows one connection per address and trusts this load balancer.
async fn node(trusted: &str) -> Node {
    Node::builder()
        .env("STARLING_TRUSTED_PROXIES", trusted)
        .env("STARLING_LIMIT_ADDRESS_CONNECTIONS", "1")
        .start()
        .await
        .unwrap()
}

async fn open(node: &Node, forwarded_for: &str) -> Result<Client, Failure> {
    Upgrade::to(&node.ws_url()).header("x-forwarded-for", forwarded_for).open().await
}

async fn assert_refused(node: &Node, forwarded_for: &str) {
    match open(node, forwarded_for).await {
        Err(Failure::NotUpgraded { status, .. }) => assert_eq!(status, 429, "{forwarded_for}"),
        other => panic!("{forwarded_for}: {other:?}"),
    }
}

async fn refusals(node: &Node) -> f64 {
    node.metric("starling_limited_total", "limit=\"address_connections\"").await.unwrap()
}

#[tokio::test]
async fn clients_behind_a_trusted_load_balancer_are_limited_each_by_its_own_address() {
    let node = node("127.0.0.1").await;
    let first = open(&node, "203.0.113.1").await.unwrap();
    let _second = open(&node, "203.0.113.2").await.unwrap();
    assert_eq!(refusals(&node).await, 0.0);
    assert_refused(&node, "203.0.113.1").await;
    // Anybody could have written the entries before the load balancer's own.
    assert_refused(&node, "198.51.100.7, 203.0.113.2").await;
    assert_eq!(refusals(&node).await, 2.0);
    first.cut();
    until_true(SOON, "a free place", async || Ok(open(&node, "203.0.113.1").await.is_ok())).await.unwrap();
}

#[tokio::test]
async fn the_word_of_a_peer_that_is_not_trusted_is_ignored() {
    let node = node("192.0.2.1").await;
    // The request that checked readiness may still count.
    let first = until(SOON, "a connection", async || Ok(open(&node, "203.0.113.1").await.ok()));
    let _first = first.await.unwrap();
    let before = refusals(&node).await;
    assert_refused(&node, "203.0.113.2").await;
    assert_eq!(refusals(&node).await, before + 1.0);
}

#[tokio::test]
async fn a_network_is_trusted_and_hops_may_have_ports() {
    let node = node("fd00::/8, 127.0.0.0/8").await;
    let _first = open(&node, "203.0.113.1:4711").await.unwrap();
    // A forged address before it has no effect.
    assert_refused(&node, "198.51.100.7, 203.0.113.1:4712").await;
    assert_refused(&node, "198.51.100.8, 203.0.113.1, 127.0.0.9:80, [fd00::1]:443").await;
    let _second = open(&node, "[2001:db8::1]:4711").await.unwrap();
    assert_refused(&node, "198.51.100.9, [2001:db8::1]:4712").await;
}

#[tokio::test]
async fn what_stands_before_a_hop_that_cannot_be_read_is_not_believed() {
    let node = node("127.0.0.1").await;
    // All of them count as the load balancer; the request that checked readiness may still count.
    let first = until(SOON, "a connection", async || Ok(open(&node, "203.0.113.1, unknown").await.ok()));
    let _first = first.await.unwrap();
    assert_refused(&node, "203.0.113.2, unknown").await;
    assert_refused(&node, "203.0.113.3, 203.0.113.4:port").await;
}

#[tokio::test]
async fn a_trusted_load_balancer_says_whether_its_client_used_tls() {
    let open = async |node: &Node, scheme: &str, origin: &str| {
        let upgrade =
            Upgrade::to(&node.ws_url()).header("x-forwarded-proto", scheme).header("origin", origin);
        upgrade.open().await.map(drop).map_err(|failure| match failure {
            Failure::NotUpgraded { status, .. } => status,
            other => panic!("{other}"),
        })
    };
    for (trusted, told_tls) in [("127.0.0.0/8", Err(403)), ("192.0.2.1", Ok(()))] {
        let node =
            Node::builder().unlimited().env("STARLING_TRUSTED_PROXIES", trusted).start().await.unwrap();
        let (plain, secure) = (format!("http://{}", node.address()), format!("https://{}", node.address()));
        assert_eq!(open(&node, "https", &plain).await, told_tls, "a page without TLS is another one");
        for (scheme, origin) in [("https", &secure), ("http", &plain), ("http", &secure), ("HTTPS", &secure)]
        {
            assert_eq!(open(&node, scheme, origin).await, Ok(()), "{scheme} {origin}");
        }
        assert_eq!(open(&node, "https", "https://elsewhere.example").await, Err(403));
    }
}

#[tokio::test]
async fn what_is_neither_an_address_nor_a_network_ends_the_start() {
    for bad in ["10.0.0.0/33", "balancer.internal"] {
        let builder = Node::builder().env("STARLING_TRUSTED_PROXIES", &format!("127.0.0.1, {bad}"));
        let (status, log) = finished(builder).await;
        assert!(status == BAD && log.contains("trusted_proxies") && log.contains(bad), "{status}: {log}");
    }
}

#[tokio::test]
async fn who_is_refused_for_itself_uses_up_nothing_of_what_the_node_takes_of_all() {
    let node = Node::builder()
        .env("STARLING_TRUSTED_PROXIES", "127.0.0.1")
        .env("STARLING_LIMIT_HANDSHAKES_PER_SECOND", "10")
        .env("STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND", "1")
        .start()
        .await
        .unwrap();
    let _first = open(&node, "203.0.113.1").await.unwrap();
    for _ in 0..100 {
        match open(&node, "203.0.113.1").await {
            // On a busy machine this may take more than one second.
            Ok(_) => {}
            Err(Failure::NotUpgraded { status, .. }) => assert_eq!(status, 429),
            Err(other) => panic!("{other}"),
        }
    }
    let _second = open(&node, "203.0.113.2").await.unwrap();
    for n in 0..100 {
        let elsewhere = Upgrade::to(&node.ws_url()).header("origin", "https://elsewhere.example");
        match elsewhere.header("x-forwarded-for", &format!("198.51.100.{n}")).open().await {
            Err(Failure::NotUpgraded { status, .. }) => assert_eq!(status, 403),
            other => panic!("{other:?}"),
        }
    }
    open(&node, "203.0.113.3").await.unwrap();
    let storm = node.metric("starling_handshakes_refused_total", "reason=\"storm\"").await;
    assert_eq!(storm.unwrap(), 0.0);
}

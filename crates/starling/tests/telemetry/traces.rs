//! Traces show the path of a message from the client's request to the node that delivers it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Upgrade};
use starling_testkit::collector::{Collector, Span};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};

use crate::SOON;

/// The client's own span, in the client's own trace.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Number of sends in flight.
const CROWD: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_sends_trace_goes_from_its_command_to_the_node_that_delivers_the_message() -> Result<()> {
    let (collector, cluster) = traced_cluster().await?;
    let (mut ada, mut bob) = in_a_conversation(&cluster).await?;
    ada.command("send", message(0)).await?;
    bob.wait_for_event("message").await?;

    let handshake = collector.wait_for(SOON, "the handshake", |span| is_ours(span) && span.name == "request");
    let handshake = handshake.await?;
    ensure!(handshake.node() == cluster.node(0).name(), "{handshake:?}");
    ensure!(handshake.attributes["path"] == "/v1/ws", "{handshake:?}");
    let send = command(&collector, "send").await?;
    ensure!(send.node() == cluster.node(0).name(), "{send:?}");
    ensure!(send.is_linked_to(&handshake), "nothing leads from the handshake to {send:?}");

    let append =
        collector.wait_for(SOON, "the commit", |span| span.name == "append" && span.is_child_of(&send));
    ensure!(append.await?.attributes["messages"] == "1");
    // The batch may contain other publications of the node.
    let publish = collector.wait_for(SOON, "the batch for the other nodes", |span| {
        span.name == "publish" && (span.is_child_of(&send) || span.is_linked_to(&send))
    });
    ensure!(publish.await?.node() == cluster.node(0).name());
    receives(&collector, &send, cluster.node(1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_http_stays_in_the_callers_trace_on_all_nodes() -> Result<()> {
    let (collector, cluster) = traced_cluster().await?;
    let (_ada, mut bob) = in_a_conversation(&cluster).await?;
    let url = format!("{}/v1/conversations/tea/messages", cluster.node(0).http_url());
    let request = Request::new("POST", &url).bearer(&cluster.token("ada")).header("traceparent", &ours());
    let answer = request.json(&json!({"key": "k", "content": "hello"})).send().await?;
    ensure!(answer.status == 201, "{}", answer.text());
    bob.wait_for_event("message").await?;

    let request = collector.wait_for(SOON, "the request", |span| {
        is_ours(span) && span.name == "request" && span.attributes["path"].ends_with("/messages")
    });
    let request = request.await?;
    let append = |span: &Span| span.name == "append" && span.is_child_of(&request);
    collector.wait_for(SOON, "the commit", append).await?;
    receives(&collector, &request, cluster.node(1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_for_several_sends_is_linked_to_each_of_them() -> Result<()> {
    let (collector, cluster) = traced_cluster().await?;
    let (mut ada, _bob) = in_a_conversation(&cluster).await?;
    let mut ids = Vec::new();
    for n in 0..CROWD {
        ids.push(ada.submit("send", message(n)).await?);
    }
    for id in ids {
        ada.reply(id).await?;
    }
    // The first one is committed alone; the others gather in the meantime.
    let several = |span: &Span| span.name == "append" && span.links.len() >= 2;
    let append = collector.wait_for(SOON, "a commit with links", several).await?;
    ensure!(append.parent.is_empty(), "part of one of several traces: {append:?}");
    ensure!(append.attributes["messages"] == append.links.len().to_string(), "{append:?}");
    for link in &append.links {
        let linked = |span: &Span| (&span.trace, &span.id) == (&link.trace, &link.id);
        let send = collector.wait_for(SOON, "what a link leads to", linked).await?;
        ensure!(send.name == "command" && send.attributes["op"] == "send", "{send:?}");
        receives(&collector, &send, cluster.node(1)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_a_topic_is_traced_from_its_command_to_the_broker() -> Result<()> {
    let (collector, cluster) = traced_cluster().await?;
    let (mut ada, _bob) = in_a_conversation(&cluster).await?;
    ada.command("publish", json!({"topic": "news", "data": 1})).await?;
    let publish = command(&collector, "publish").await?;
    let batch = |span: &Span| span.name == "publish_topics" && span.is_child_of(&publish);
    collector.wait_for(SOON, "the batch for the broker", batch).await?;
    Ok(())
}

/// Starts two nodes that export to a collector soon after a span has ended.
async fn traced_cluster() -> Result<(Collector, Cluster)> {
    let collector = Collector::start().await?;
    let cluster = Cluster::builder(2)
        .unlimited()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "50");
    Ok((collector, cluster.start().await?))
}

/// Connects Ada to the first node, with a traced handshake, and Bob to the second, in one conversation.
async fn in_a_conversation(cluster: &Cluster) -> Result<(Client, Client)> {
    let upgrade = Upgrade::to(&cluster.node(0).ws_url()).header("traceparent", &ours());
    let mut ada = upgrade.open().await?;
    ada.hello(json!({"token": cluster.token("ada")})).await?;
    ada.command("create", json!({"conversation": "tea", "members": ["bob"]})).await?;
    ada.command("join", json!({"conversation": "tea"})).await?;
    let mut bob = Client::connect(&cluster.node(1).ws_url(), &cluster.token("bob"), Encoding::Json).await?;
    bob.command("join", json!({"conversation": "tea"})).await?;
    Ok((ada, bob))
}

fn message(n: usize) -> Value {
    json!({"conversation": "tea", "key": format!("k{n}"), "content": "hello"})
}

fn ours() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn is_ours(span: &Span) -> bool {
    span.trace == TRACE && span.parent == PARENT
}

/// Returns the span of the only command of this name.
async fn command(collector: &Collector, op: &str) -> Result<Span> {
    let found = collector.wait_for(SOON, op, |span| span.name == "command" && span.attributes["op"] == op);
    found.await
}

/// Waits until this node has received the message of that span.
async fn receives(collector: &Collector, sent: &Span, node: &Node) -> Result<()> {
    let received =
        |span: &Span| span.name == "receive" && span.is_child_of(sent) && span.node() == node.name();
    collector.wait_for(SOON, "the other node's part", received).await?;
    Ok(())
}

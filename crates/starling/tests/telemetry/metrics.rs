//! `/metrics` of running nodes: it contains exactly what the docs list, and values change when something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::node::{Cluster, Node};
use starling_testkit::wait::{until, until_true};

use crate::SOON;
use crate::exposition::{Exposition, Kind};

/// What the names of metrics begin with that only nodes with bridges to RabbitMQ show. A test of the bridges looks for them.
const BRIDGES: &str = "starling_rabbitmq_";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_shows_from_its_start_what_the_docs_list_and_nothing_else() -> Result<()> {
    let listed = listed()?;
    let cluster = Cluster::start(1).await?;
    // Values that are only known after a beat appear within seconds.
    let whole = until(SOON, "all that is listed", async || {
        let shown = Exposition::parse(&cluster.node(0).metrics().await?)?;
        let missing: Vec<_> = listed
            .keys()
            .filter(|name| !shown.families.contains_key(*name) && !name.starts_with(BRIDGES))
            .collect();
        ensure!(missing.is_empty(), "not shown: {missing:?}");
        Ok(Some(shown))
    });
    expect_listed(&whole.await?, &listed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_by_itself_shows_nothing_that_the_docs_do_not_list() -> Result<()> {
    let listed = listed()?;
    let node = Node::start().await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "tea"})).await?;
    ada.command("send", json!({"conversation": "tea", "key": "k", "content": "hello"})).await?;
    let shown = Exposition::parse(&node.metrics().await?)?;
    expect_listed(&shown, &listed)?;
    // Metrics of Redis cannot appear here.
    let missing = listed.keys().filter(|name| !shown.families.contains_key(*name));
    let unexpected: Vec<_> = missing
        .filter(|name| {
            !["starling_fanout_", "starling_session_store_", BRIDGES].iter().any(|of| name.starts_with(of))
        })
        .collect();
    ensure!(unexpected.is_empty(), "not shown: {unexpected:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_timed_whichever_way_it_is_answered() -> Result<()> {
    // Without limits a send is answered after the lane for the log, and a ping at once.
    let node = Node::builder().unlimited().start().await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "tea"})).await?;
    ada.command("send", json!({"conversation": "tea", "key": "k", "content": "hello"})).await?;
    ada.command("publish", json!({"topic": "news", "data": 1})).await?;
    ada.command("ping", json!({})).await?;
    becomes(&node, "starling_commands_total", "", |value| value == 5.0).await?;
    becomes(&node, "starling_command_seconds_count", "", |value| value == 5.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_two_nodes_is_counted_and_timed_where_it_happens() -> Result<()> {
    let cluster = Cluster::builder(2).env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "6").start().await?;
    let (first, second) = (cluster.node(0), cluster.node(1));
    let token = cluster.token("ada");
    let mut ada = Client::connect(&first.ws_url(), &token, Encoding::Json).await?;
    let mut bob = Client::connect(&second.ws_url(), &cluster.token("bob"), Encoding::MessagePack).await?;
    ada.command("create", json!({"conversation": "tea", "members": ["bob"]})).await?;
    for client in [&mut ada, &mut bob] {
        client.command("join", json!({"conversation": "tea"})).await?;
    }
    for n in [1, 2, 3, 3] {
        let key = format!("k{n}");
        ada.command("send", json!({"conversation": "tea", "key": key, "content": "hello"})).await?;
    }
    for _ in 1..=3 {
        bob.wait_for_event("message").await?;
    }
    for (name, labels, count) in [
        ("starling_connections", "", 1.0),
        ("starling_sessions", "", 1.0),
        ("starling_conversations_joined", "", 1.0),
        ("starling_connections_opened_total", "", 1.0),
        ("starling_handshake_seconds_count", "", 1.0),
        ("starling_resumes_total", "result=\"new\"", 1.0),
        ("starling_commands_total", "op=\"send\"", 4.0),
        ("starling_command_seconds_count", "", 7.0),
        ("starling_messages_committed_total", "", 3.0),
        ("starling_messages_duplicate_total", "", 1.0),
        ("starling_commit_seconds_count", "", 4.0),
        ("starling_append_batch_size_sum", "", 4.0),
        ("starling_store_commit_messages_sum", "database=\"postgres\"", 4.0),
        ("starling_store_messages_total", "outcome=\"stored\"", 3.0),
        ("starling_session_store_living_nodes", "", 2.0),
    ] {
        becomes(first, name, labels, |value| value == count).await?;
    }
    // Bob has the only connection there, and all messages came from the first node.
    becomes(second, "starling_delivery_seconds_count", "", |value| value == 3.0).await?;
    becomes(second, "starling_fanout_lag_seconds_count", "", |value| value == 3.0).await?;
    let lag = second.metric("starling_fanout_lag_seconds_sum", "").await?;
    ensure!(lag > 0.0 && lag < SOON.as_secs_f64(), "three messages in {lag} s");
    for (node, name) in
        [(first, "starling_fanout_publications_total"), (second, "starling_fanout_received_total")]
    {
        becomes(node, name, "", |value| value >= 3.0).await?;
    }

    let refused = Upgrade::to(&first.ws_url()).bearer("no token").open().await;
    ensure!(matches!(refused, Err(Failure::NotUpgraded { status: 401, .. })));
    becomes(first, "starling_handshakes_refused_total", "reason=\"token\"", |value| value == 1.0).await?;
    becomes(first, "starling_handshakes_refused_total", "", |value| value == 1.0).await?;
    ensure!(Client::connect(&first.ws_url(), "no token", Encoding::Json).await.is_err());
    becomes(first, "starling_command_errors_total", "code=\"unauthorized\"", |value| value == 1.0).await?;
    becomes(first, "starling_connections_closed_total", "code=\"4401\"", |value| value == 1.0).await?;

    let mut writes = 5;
    let failure = loop {
        let publication = ada.command("publish", json!({"topic": "news", "data": writes})).await;
        match publication {
            Ok(_) if writes < 20 => writes += 1,
            Ok(_) => anyhow::bail!("{writes} writes in a minute were taken"),
            Err(failure) => break failure,
        }
    };
    ensure!(failure.code() == Some("rate_limited"), "{failure}");
    becomes(first, "starling_limited_total", "limit=\"user_writes\"", |value| value == 1.0).await?;
    becomes(first, "starling_command_errors_total", "code=\"rate_limited\"", |value| value == 1.0).await?;

    let welcome = ada.welcome();
    let resume = json!({"session": welcome["session"], "ticket": welcome["ticket"], "cursors": {"tea": 1}});
    ada.cut();
    becomes(first, "starling_connections", "", |value| value == 0.0).await?;
    becomes(first, "starling_connections_closed_total", "code=\"1006\"", |value| value == 1.0).await?;
    let mut ada = Client::resume(&second.ws_url(), &token, Encoding::Json, resume).await?;
    for _ in 2..=3 {
        ada.wait_for_event("message").await?;
    }
    becomes(second, "starling_resumes_total", "result=\"resumed\"", |value| value == 1.0).await?;
    becomes(second, "starling_session_store_attached_total", "outcome=\"resumed\"", |value| value == 1.0)
        .await?;
    becomes(second, "starling_catch_up_pages_total", "", |value| value >= 1.0).await?;
    becomes(second, "starling_connections", "", |value| value == 2.0).await?;
    // The node that had her session knows where it is now.
    becomes(first, "starling_sessions", "", |value| value == 0.0).await?;
    // The node asks the store twice when it has just written the session's drop itself. That is still one attach.
    let resume =
        json!({"session": ada.welcome()["session"], "ticket": ada.welcome()["ticket"], "cursors": {}});
    ada.cut();
    let ada = Client::resume(&second.ws_url(), &token, Encoding::Json, resume).await?;
    ensure!(ada.welcome()["resumed"] == true, "{}", ada.welcome());
    becomes(second, "starling_resumes_total", "result=\"resumed\"", |value| value == 2.0).await?;
    let attached = second.metric("starling_session_store_attached_total", "outcome=\"resumed\"").await?;
    ensure!(attached == 2.0, "two resumes are counted as {attached} attaches");
    Ok(())
}

/// Waits until the sum of these series has the expected value.
pub async fn becomes(node: &Node, name: &str, labels: &str, wanted: impl Fn(f64) -> bool) -> Result<()> {
    let mut last = 0.0;
    let waited = until_true(SOON, name, async || {
        last = node.metric(name, labels).await?;
        Ok(wanted(last))
    });
    waited.await.with_context(|| format!("{name}{{{labels}}} of {} is {last}", node.name()))
}

/// Metric as listed in the docs.
struct Listed {
    kind: Kind,
    unit: String,
    labels: String,
}

/// Reads the tables of `docs/metrics.md`.
fn listed() -> Result<BTreeMap<String, Listed>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let mut listed = BTreeMap::new();
    for line in std::fs::read_to_string(path)?.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, _meaning] = cells[..] else { anyhow::bail!("no row: {line}") };
        let metric = Listed { kind: Kind::parse(kind)?, unit: unit.to_owned(), labels: labels.to_owned() };
        listed.insert(name.trim_matches('`').to_owned(), metric);
    }
    ensure!(listed.len() > 60, "only {} metrics are listed", listed.len());
    Ok(listed)
}

/// Checks that everything on the page is listed with its kind and labels, and follows the naming conventions.
fn expect_listed(shown: &Exposition, listed: &BTreeMap<String, Listed>) -> Result<()> {
    for (name, family) in &shown.families {
        let metric = listed.get(name).with_context(|| format!("{name} is not listed"))?;
        ensure!(family.kind == metric.kind, "{name} is {:?}, listed as {:?}", family.kind, metric.kind);
        ensure!(!family.help.is_empty(), "{name} has no help");
        ensure!((family.kind == Kind::Counter) == name.ends_with("_total"), "{name}");
        let bare = name.trim_end_matches("_total");
        for unit in ["seconds", "bytes"] {
            let named = bare.split('_').any(|word| word == unit);
            ensure!((metric.unit == unit) == named, "{name} counts {}", metric.unit);
        }
        let labels: BTreeSet<&String> =
            family.series.iter().flat_map(|series| series.labels.keys()).collect();
        for label in labels {
            ensure!(
                metric.labels.contains(&format!("`{label}`:")),
                "the label {label} of {name} is not listed"
            );
        }
        if family.kind == Kind::Histogram {
            family.expect_buckets().with_context(|| name.clone())?;
        }
    }
    Ok(())
}

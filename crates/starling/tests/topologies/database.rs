//! PostgreSQL behind PgBouncer, and with a replica.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, SECRET, program};
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::proxy::Link;

use crate::meeting::everything_works;
use crate::talk::Talk;
use crate::{TURN, database, log, two_nodes};

/// So many messages that the oldest are read from the replica.
const LONG: u64 = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_pgbouncer_with_transaction_pooling_everything_works() -> Result<()> {
    let _turn = TURN.lock().await;
    let postgres = Postgres::shared().await?;
    postgres.create_database("pooled").await?;
    let bouncer = PgBouncer::start(postgres).await?;
    let cluster = two_nodes().database(&bouncer.url_of("pooled")).start().await?;
    everything_works(&cluster, "pooled").await?;
    let talk = Talk::begin(&cluster, "talk").await?;
    talk.goes_on().await?;
    talk.end(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_replica_to_read_from_everything_works_and_it_may_be_away() -> Result<()> {
    let _turn = TURN.lock().await;
    let url = database("read").await?;
    let mut link = Link::to(Postgres::shared().await?.address()).await?;
    let cluster = two_nodes().database(&url).env("DATABASE_READ_URL", &link.through(&url)).start().await?;
    everything_works(&cluster, "near").await?;
    has_listed(&cluster, &["near-Json", "near-MessagePack"]).await?;
    ensure!(link.connections() > 0, "nothing was read there");
    ensure!(fallbacks(&cluster).await? == 0.0, "the replica was away");

    link.refuse().await;
    link.cut();
    everything_works(&cluster, "away").await?;
    has_listed(&cluster, &["away-Json", "away-MessagePack"]).await?;
    ensure!(fallbacks(&cluster).await? > 0.0, "the replica was there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_far_behind_leaves_no_hole_in_the_history() -> Result<()> {
    let _turn = TURN.lock().await;
    // The replica has the tables but no data yet.
    let behind = database("behind").await?;
    let mut migrate = tokio::process::Command::new(tokio::task::spawn_blocking(program).await??);
    migrate.arg("migrate").env("DATABASE_URL", &behind).env("STARLING_JWT_SECRET", SECRET);
    let migrated = migrate.stdin(Stdio::null()).output().await?;
    ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let cluster =
        two_nodes().database(&database("ahead").await?).env("DATABASE_READ_URL", &behind).start().await?;
    let node = cluster.node(0);
    let mut ada = Client::connect(&node.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "long"})).await?;
    let mut sends = Vec::new();
    for n in 1..=LONG {
        let fields = json!({"conversation": "long", "key": n.to_string(), "content": format!("text {n}")});
        sends.push(ada.submit("send", fields).await?);
    }
    for id in sends {
        ada.reply(id).await?;
    }
    for node in cluster.nodes() {
        let log = log::read(node, "ada", "long").await?;
        ensure!(log.head("long") == LONG && log.faults() == 0, "{} messages", log.messages());
    }
    // Backwards, like a reader who scrolls up.
    let (mut before, mut more) = (LONG + 1, true);
    while more {
        let page = json!({"conversation": "long", "before": before, "limit": 100});
        let page = ada.command("history", page).await?;
        let messages = page["messages"].as_array().context("a page without messages")?;
        for message in messages.iter().rev() {
            before -= 1;
            ensure!(message["seq"] == before, "{message} comes in the place of {before}");
        }
        more = page["more"] == true;
    }
    ensure!(before == 1, "the history ends before message {before}");
    Ok(())
}

/// Checks that the user's list contains these conversations, on each node.
async fn has_listed(cluster: &Cluster, names: &[&str]) -> Result<()> {
    for node in cluster.nodes() {
        let url = format!("{}/v1/conversations?limit=100", node.http_url());
        let list = Request::new("GET", &url).bearer(&node.token("bob")).send().await?.json()?;
        let listed: Vec<&str> = list["conversations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["conversation"].as_str())
            .collect();
        ensure!(names.iter().all(|name| listed.contains(name)), "{list}");
    }
    Ok(())
}

/// Returns how often the primary was used because the replica failed.
async fn fallbacks(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for node in cluster.nodes() {
        sum += node.metric("starling_store_replica_fallbacks_total", "").await?;
    }
    Ok(sum)
}

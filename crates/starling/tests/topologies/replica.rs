//! PostgreSQL with a replica to read from.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, SECRET, program};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use crate::meeting::everything_works;
use crate::talk::{Manner, Talk};
use crate::{TURN, database, log, two_nodes};

/// So many messages that the oldest are read from the replica.
const LONG: u64 = 1_500;

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
    let mut ada = say_much(&cluster, "long").await?;
    for node in cluster.nodes() {
        let log = log::read(node, "ada", "long").await?;
        ensure!(log.head("long") == LONG && log.faults() == 0, "{} messages", log.messages());
    }
    has_whole_history(&mut ada, "long").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streaming_replica_serves_history_may_lag_or_end_and_takes_over_when_it_is_promoted() -> Result<()>
{
    let _turn = TURN.lock().await;
    let primary = Postgres::start().await?;
    let replica = Postgres::replica_of(&primary).await?;
    let cluster = two_nodes().database(&primary.url_with(&replica)).env("DATABASE_READ_URL", &replica.url());
    let cluster = cluster.start().await?;
    everything_works(&cluster, "near").await?;
    let mut ada = say_much(&cluster, "long").await?;
    primary.is_replayed_by(&replica).await?;
    has_whole_history(&mut ada, "long").await?;
    has_listed(&cluster, &["near-Json", "near-MessagePack"]).await?;
    let readers = replica.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'starling'").await?;
    ensure!(readers.trim() != "0", "nothing was read there");
    ensure!(fallbacks(&cluster).await? == 0.0, "the replica was away");

    // It lags: it has received everything, and shows nothing of it.
    replica.psql("SELECT pg_wal_replay_pause()").await?;
    let mut ada = say_much(&cluster, "late").await?;
    has_whole_history(&mut ada, "late").await?;
    replica.psql("SELECT pg_wal_replay_resume()").await?;

    replica.stop().await?;
    everything_works(&cluster, "away").await?;
    has_whole_history(&mut ada, "late").await?;
    ensure!(fallbacks(&cluster).await? > 0.0, "the replica was there");
    replica.start_again().await?;

    // A planned change: the primary ends in good order, having sent everything to its replica.
    let talk = Talk::begin(&cluster, "talk", Manner::UntilAccepted).await?;
    talk.goes_on().await?;
    primary.is_replayed_by(&replica).await?;
    primary.stop().await?;
    replica.promote().await?;
    talk.goes_on().await?;
    everything_works(&cluster, "promoted").await?;
    talk.end(&cluster).await
}

/// Sends [`LONG`] messages to a new conversation.
async fn say_much(cluster: &Cluster, conversation: &str) -> Result<Client> {
    let mut ada = Client::connect(&cluster.node(0).ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": conversation})).await?;
    let mut sends = Vec::new();
    for n in 1..=LONG {
        let fields =
            json!({"conversation": conversation, "key": n.to_string(), "content": format!("text {n}")});
        sends.push(ada.submit("send", fields).await?);
    }
    for id in sends {
        ada.reply(id).await?;
    }
    Ok(ada)
}

/// Reads a conversation of [`LONG`] messages backwards, like a reader who scrolls up, and checks that nothing is missing.
async fn has_whole_history(client: &mut Client, conversation: &str) -> Result<()> {
    let (mut before, mut more) = (LONG + 1, true);
    while more {
        let page = json!({"conversation": conversation, "before": before, "limit": 100});
        let page = client.command("history", page).await?;
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

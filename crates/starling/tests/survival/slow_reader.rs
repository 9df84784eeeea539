//! A reader that stops reading in a busy conversation costs the node little and the others nothing, and loses nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Cluster;
use starling_testkit::proxy::Link;

use crate::TURN;
use crate::talk::{message, rest, say};

const CONTENT_BYTES: usize = 32 << 10;
/// Number of messages between two checks of the node.
const BATCH: usize = 32;
/// Least number of bytes sent while the slow clients do not read.
const BYTES_MIN: usize = 4 << 20;
/// Most bytes sent before the node must have stopped queueing. The kernel and the link buffer some of them.
const BYTES_MAX: usize = 64 << 20;
/// Longest time from a send to a reader that reads.
const LATENCY_MAX: Duration = Duration::from_secs(5);
/// Most memory that this may cost the node.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn readers_who_stop_are_served_from_the_log_when_they_read_again() -> Result<()> {
    let _turn = TURN.lock().await;
    // A client that does not read does not answer pings either, but this test is not about that.
    let cluster = Cluster::builder(2).unlimited().env("STARLING_HEARTBEAT_SECONDS", "300").start().await?;
    let node = cluster.node(0);
    let link = Link::to(node.address()).await?;
    let mut bob = Client::connect(&cluster.node(1).ws_url(), &cluster.token("bob"), Encoding::Json).await?;
    bob.command("create", json!({"conversation": "c", "members": ["live", "slow"]})).await?;
    let mut live = Client::connect(&node.ws_url(), &cluster.token("live"), Encoding::Json).await?;
    live.command("join", json!({"conversation": "c"})).await?;
    let mut slow = Vec::new();
    for encoding in Encoding::ALL {
        let mut client =
            Client::connect(&link.through(&node.ws_url()), &cluster.token("slow"), encoding).await?;
        client.command("join", json!({"conversation": "c"})).await?;
        client.set_patience(Duration::from_secs(60));
        slow.push(client);
    }

    let catch_ups = node.metric("starling_catch_ups_total", "").await?;
    let rss_before = node.rss_bytes()?;
    let (mut rss_max, mut slowest, mut sent) = (rss_before, Duration::ZERO, 0);
    link.pause();
    // Once the node has dropped its queue, one more batch is only in the log.
    let mut dropped_before = false;
    loop {
        let dropped = node.metric("starling_drops_total", "kind=\"durable\"").await? > 0.0;
        if sent * CONTENT_BYTES >= BYTES_MIN && dropped_before {
            break;
        }
        dropped_before = dropped;
        ensure!(sent * CONTENT_BYTES < BYTES_MAX, "after {sent} messages the node still queues");
        for _ in 0..BATCH {
            sent += 1;
            let begun = Instant::now();
            say(&mut bob, "c", &content(sent)).await?;
            expect(&mut live, sent).await?;
            slowest = slowest.max(begun.elapsed());
        }
        rss_max = rss_max.max(node.rss_bytes()?);
    }

    link.resume();
    for client in &mut slow {
        for n in 1..=sent {
            expect(client, n).await?;
        }
    }
    say(&mut bob, "c", &content(sent + 1)).await?;
    for client in slow.iter_mut().chain([&mut live]) {
        expect(client, sent + 1).await?;
        let more = rest(client).await?;
        ensure!(more.is_empty(), "{} events were shown again", more.len());
    }
    rss_max = rss_max.max(node.rss_bytes()?);
    let catch_ups = node.metric("starling_catch_ups_total", "").await? - catch_ups;
    let growth = rss_max - rss_before;
    println!(
        "{sent} messages, {} MiB; the slowest to the live reader took {slowest:?}; the node grew by {} KiB; {catch_ups} catch-ups",
        (sent * CONTENT_BYTES) >> 20,
        growth >> 10,
    );
    ensure!(catch_ups > 0.0, "nobody was served from the log");
    ensure!(slowest <= LATENCY_MAX, "a message took {slowest:?} to a reader who reads");
    ensure!(growth < GROWTH_BYTES_MAX, "the node grew by {growth} bytes");
    Ok(())
}

/// Checks that the next message is this one.
async fn expect(client: &mut Client, n: usize) -> Result<()> {
    let (seq, came) = message(client).await?;
    ensure!(seq == n as u64, "number {seq} came in the place of {n}");
    ensure!(came == content(n), "message {n} has another content");
    Ok(())
}

fn content(n: usize) -> String {
    format!("{n:>CONTENT_BYTES$}")
}

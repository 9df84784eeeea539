//! A gap drops everything.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_cache::{CacheConfig, Invalidations, Mechanism};
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::world::{PATIENCE, World, config};

const KEYS: usize = 50;

/// Caches keys on two nodes, changes all of them without a word to anybody, tells one node of a gap, and returns how many of the keys it
/// reads as they were.
async fn outdated_after_a_gap(config: &CacheConfig) -> Result<usize> {
    let redis = Redis::shared().await?;
    let long = CacheConfig { process_ttl: Duration::from_secs(600), ..config.clone() };
    let world = World::start(&redis.url(), 2, &long)?;
    let keys: Vec<String> = (0..KEYS).map(|key| key.to_string()).collect();
    for key in &keys {
        world.table.commit(key, "first");
        ensure!(world.version(0, key).await? == 1 && world.version(1, key).await? == 1);
        world.table.commit(key, "second");
    }
    world.nodes[1].gap();
    let mut outdated = 0;
    for key in &keys {
        outdated += usize::from(world.version(1, key).await? == 1);
    }
    Ok(outdated)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_drops_everything_in_the_process_and_distrusts_what_is_in_redis() -> Result<()> {
    let outdated = outdated_after_a_gap(&config("gap")).await?;
    ensure!(outdated == 0, "{outdated} of {KEYS} keys were served as they were before the gap");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_gaps_are_ignored_everything_is_outdated() -> Result<()> {
    let outdated =
        outdated_after_a_gap(&CacheConfig { off: Some(Mechanism::Gaps), ..config("no gap") }).await?;
    ensure!(outdated == KEYS, "{outdated} of {KEYS}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_costs_the_cluster_one_load_of_each_key() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 3, &config("gap of all"))?;
    world.table.commit("k", "value");
    world.version(0, "k").await?;
    // A load that begins right after a gap may count as from before it, by as much as an answer of Redis takes.
    let costs_one_load = async || {
        let before = world.table.loads();
        for node in &world.nodes {
            node.gap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        for node in 0..3 {
            world.version(node, "k").await?;
        }
        Ok(world.table.loads() == before + 1)
    };
    wait::until_true(PATIENCE, "a gap that costs one load", costs_one_load).await
}

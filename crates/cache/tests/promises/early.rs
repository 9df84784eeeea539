//! Entries that end soon are loaded while the readers still get the older value.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_cache::CacheConfig;
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::world::{PATIENCE, World, config};

/// So eager that every read is early.
pub const EAGER: f64 = 1e12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_load_keeps_no_reader_waiting() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 2, &CacheConfig { early: EAGER, ..config("early") })?;
    world.table.commit("k", "value");
    world.version(0, "k").await?;
    ensure!(world.table.loads() == 1);
    // From now on a load would keep its readers waiting for ever.
    world.table.delay(PATIENCE * 10);
    for node in [0, 1, 0, 1] {
        ensure!(world.version(node, "k").await? == 1);
    }
    wait::until_true(PATIENCE, "an early load", async || Ok(world.table.loads() >= 2)).await?;
    // One node has the lease, and so the others do not load.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for node in [0, 1, 0, 1] {
        ensure!(world.version(node, "k").await? == 1);
    }
    ensure!(world.table.loads() == 2, "{} loads", world.table.loads());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_eagerness_nothing_is_loaded_early() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 2, &config("late"))?;
    world.table.commit("k", "value");
    for node in [0, 1, 0, 1, 0, 1] {
        world.version(node, "k").await?;
    }
    ensure!(world.table.loads() == 1);
    Ok(())
}

//! What each level keeps, and what it does with what it can't use.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use starling_cache::{CacheConfig, Error};
use starling_testkit::redis::{Redis, RedisCluster};

use crate::world::{World, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_level_spares_the_next() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 2, &config("levels"))?;
    world.table.commit("k", "value");
    for node in [0, 0, 1, 1] {
        ensure!(world.version(node, "k").await? == 1);
    }
    ensure!(world.table.loads() == 1);
    // What the process has needs no Redis.
    redis.cli(&["DEL", "starling:v1:cache:levels:k"]).await?;
    ensure!(world.version(0, "k").await? == 1 && world.table.loads() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_levels_are_enough() -> Result<()> {
    let world = World::alone(&config("two"));
    world.change(0, "k", "first").await;
    ensure!(world.version(0, "k").await? == 1 && world.version(0, "k").await? == 1);
    ensure!(world.table.loads() == 1);
    world.change(0, "k", "second").await;
    ensure!(world.version(0, "k").await? == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_there_is_nothing_is_kept_for_seconds_and_dropped_by_a_change() -> Result<()> {
    let redis = Redis::shared().await?;
    let config = CacheConfig { absent_ttl: Duration::from_secs(600), ..config("absent") };
    let world = World::start(&redis.url(), 2, &config)?;
    for node in [0, 1, 0, 1] {
        ensure!(world.nodes[node].get("k").await?.is_none());
    }
    ensure!(world.table.loads() == 1, "{} loads", world.table.loads());
    let version = world.change(0, "k", "there").await;
    for node in [0, 1] {
        ensure!(world.version(node, "k").await? == version);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_load_is_told_to_all_who_wait_and_not_kept() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 1, &config("failed"))?;
    world.table.commit("k", "value");
    world.table.is_broken.store(true, Ordering::SeqCst);
    let (first, second) = tokio::join!(world.nodes[0].get("k"), world.nodes[0].get("k"));
    ensure!(matches!(first, Err(Error::Source(_))) && matches!(second, Err(Error::Source(_))));
    world.table.is_broken.store(false, Ordering::SeqCst);
    // The lease was given back, so that nobody waits for it.
    ensure!(world.version(0, "k").await? == 1);
    ensure!(world.table.loads() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_takes_too_long_ends() -> Result<()> {
    let world = World::alone(&CacheConfig { load_timeout: Duration::from_millis(50), ..config("endless") });
    world.table.delay(Duration::from_secs(600));
    ensure!(matches!(world.nodes[0].get("k").await, Err(Error::TimedOut(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_is_loaded_again_and_replaced() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 2, &config("malformed"))?;
    world.table.commit("k", "value");
    world.version(0, "k").await?;
    redis.cli(&["HSET", "starling:v1:cache:malformed:k", "value", "no row"]).await?;
    ensure!(world.version(1, "k").await? == 1);
    ensure!(world.table.loads() == 2);
    let value = redis.cli(&["HGET", "starling:v1:cache:malformed:k", "value"]).await?.text();
    ensure!(value != "no row");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_somebody_else_is_left_alone() -> Result<()> {
    let redis = Redis::shared().await?;
    redis.cli(&["SET", "starling:v1:cache:foreign:k", "theirs"]).await?;
    let world = World::start(&redis.url(), 2, &config("foreign"))?;
    let version = world.change(0, "k", "value").await;
    for node in [0, 1] {
        ensure!(world.version(node, "k").await? == version);
    }
    ensure!(redis.cli(&["GET", "starling:v1:cache:foreign:k"]).await?.text() == "theirs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_large_for_redis_stays_in_the_process() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 2, &CacheConfig { redis_bytes_max: 100, ..config("large") })?;
    world.table.commit("k", &"x".repeat(1_000));
    for node in [0, 0, 1, 1] {
        ensure!(world.version(node, "k").await? == 1);
    }
    ensure!(world.table.loads() == 2, "one load on each node, {} together", world.table.loads());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_still_drops_what_is_outdated() -> Result<()> {
    let redis = Redis::start().await?;
    let world = World::start(&redis.url(), 2, &config("full"))?;
    world.change(0, "k", "first").await;
    world.version(0, "k").await?;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let version = world.change(0, "k", "second").await;
    for node in [0, 1, 0, 1] {
        ensure!(world.version(node, "k").await? == version);
    }
    ensure!(redis.cli(&["HGET", "starling:v1:cache:full:k", "state"]).await?.text() != "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_on_all_servers_of_a_cluster_are_cached() -> Result<()> {
    let redis = RedisCluster::start().await?;
    let world = World::start(&redis.url(), 2, &config("cluster"))?;
    for key in 0..20 {
        let key = format!("k{key}");
        world.change(0, &key, "first").await;
        ensure!(world.version(0, &key).await? == 1 && world.version(1, &key).await? == 1);
        world.change(1, &key, "second").await;
        ensure!(world.version(0, &key).await? == 2 && world.version(1, &key).await? == 2);
    }
    ensure!(world.table.loads() == 40, "{} loads", world.table.loads());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_too_long_is_refused() -> Result<()> {
    let world = World::alone(&config("long"));
    let key = "x".repeat(513);
    ensure!(matches!(world.nodes[0].get(&key).await, Err(Error::Key)));
    world.nodes[0].changed(&key, 1).await;
    Ok(())
}

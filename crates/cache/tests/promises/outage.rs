//! While Redis is away: values from the process and from the source, no older than five seconds, and nobody waits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_cache::redis::RedisConfig;
use starling_cache::{CacheConfig, Mechanism};
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::world::{PATIENCE, World, config};

const PROMISED: Duration = Duration::from_secs(5);
/// For how much longer the readers go on.
const BEYOND: Duration = Duration::from_secs(2);
const NODES: usize = 3;

/// Returns settings as a node has them, with a time that a busy machine keeps.
fn settings(redis: &Redis) -> Result<RedisConfig> {
    Ok(RedisConfig { command_timeout: Duration::from_millis(400), ..RedisConfig::new(redis.url().parse()?) })
}

/// Caches a key on all nodes, stops Redis, changes the key, and returns the staleness that the readers met.
async fn staleness_while_redis_is_away(config: &CacheConfig) -> Result<Duration> {
    let redis = Redis::start().await?;
    let world = World::start_with(&settings(&redis)?, NODES, config)?;
    world.change(0, "k", "first").await;
    for node in 0..NODES {
        world.version(node, "k").await?;
    }
    redis.stop()?;
    // The fan-out goes through the same Redis.
    world.cut_wire();
    world.change(0, "k", "second").await;
    world.worst_staleness("k", PROMISED + BEYOND).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_no_value_is_older_than_five_seconds() -> Result<()> {
    let worst = staleness_while_redis_is_away(&config("away")).await?;
    println!("the oldest value that was seen had been replaced {worst:?} before");
    ensure!(!worst.is_zero(), "no reader saw the older value, so that nothing was shown");
    ensure!(worst <= PROMISED, "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_a_long_lifetime_bounds_nothing() -> Result<()> {
    let config = CacheConfig { process_ttl: Duration::from_secs(60), ..config("away for long") };
    let worst = staleness_while_redis_is_away(&config).await?;
    ensure!(worst > PROMISED, "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_redis_that_is_silent_or_gone() -> Result<()> {
    let redis = Redis::start().await?;
    let world = World::start_with(&settings(&redis)?, 1, &config("silent"))?;
    world.change(0, "k", "value").await;
    world.version(0, "k").await?;
    for is_gone in [false, true] {
        if is_gone {
            redis.kill().await?;
        } else {
            redis.stop()?;
        }
        let begun = Instant::now();
        // A miss, each with a read, a load and a write.
        for key in 0..100 {
            ensure!(world.nodes[0].get(&format!("{is_gone} {key}")).await?.is_none());
            world.nodes[0].changed(&format!("{is_gone} {key}"), 1).await;
        }
        // The first calls may wait; a hundred that did would take 80 s.
        ensure!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
    Ok(())
}

/// Caches a key in Redis, stops Redis, and changes the key without a word to anybody, as a node does that dies after its commit. Returns the
/// version that a node reads once Redis is back, which was idle all the time.
async fn version_after_an_outage(config: &CacheConfig) -> Result<u64> {
    let redis = Redis::start().await?;
    let idle = World::start_with(&settings(&redis)?, 1, config)?;
    idle.change(0, "k", "first").await;
    ensure!(idle.version(0, "k").await? == 1);
    redis.stop()?;
    idle.table.commit("k", "second");
    // Until the node has noticed.
    tokio::time::sleep(Duration::from_secs(3)).await;
    redis.resume()?;
    let answers = async || Ok(redis.cli(&["PING"]).await.is_ok());
    wait::until_true(PATIENCE, "Redis to answer", answers).await?;
    // And until it has noticed that Redis is back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    idle.version(0, "k").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_held_through_an_outage_is_not_believed() -> Result<()> {
    // The process keeps nothing, so that each read asks Redis.
    let config = CacheConfig { process_ttl: Duration::ZERO, ..config("outage") };
    ensure!(version_after_an_outage(&config).await? == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_distrust_what_redis_held_through_an_outage_is_served() -> Result<()> {
    let config = CacheConfig {
        process_ttl: Duration::ZERO,
        off: Some(Mechanism::Distrust),
        ..config("believed outage")
    };
    ensure!(version_after_an_outage(&config).await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_told_what_it_missed_when_it_is_back() -> Result<()> {
    let redis = Redis::start().await?;
    let world = World::start_with(&settings(&redis)?, 1, &config("missed"))?;
    world.change(0, "k", "first").await;
    world.version(0, "k").await?;
    redis.stop()?;
    let version = world.change(0, "k", "second").await;
    redis.resume()?;
    let told = async || {
        let floor = redis.cli(&["HGET", "starling:v1:cache:missed:k", "floor"]).await?.text();
        Ok(floor == format!("{version:020}"))
    };
    wait::until_true(PATIENCE, "the change to be told", told).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_filled_again() -> Result<()> {
    let redis = Redis::start().await?;
    let world = World::start_with(&settings(&redis)?, 2, &config("empty"))?;
    world.change(0, "k", "value").await;
    world.version(0, "k").await?;
    redis.restart().await?;
    let config_key = "starling:v1:cache:empty:k";
    let filled = async || {
        world.version(1, "k").await?;
        Ok(redis.cli(&["HGET", config_key, "state"]).await?.text() == "1")
    };
    wait::until_true(PATIENCE, "the value in Redis", filled).await
}

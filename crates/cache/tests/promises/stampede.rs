//! Many misses of one key are one load in the cluster.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_cache::redis::RedisConfig;
use starling_cache::{CacheConfig, Error, Mechanism};
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::world::{PATIENCE, World, config, patient};

const NODES: usize = 4;
const MISSES: usize = 1_000;

/// Lets a thousand readers on several nodes ask for one key at the same time, and returns the number of loads.
async fn loads_of_a_stampede(world: &World, delay: Duration) -> Result<usize> {
    world.table.commit("k", "value");
    world.table.delay(delay);
    let reads = (0..MISSES).map(|reader| world.version(reader % world.nodes.len(), "k"));
    for version in futures_util::future::try_join_all(reads).await? {
        ensure!(version == 1);
    }
    Ok(world.table.loads())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_misses_at_once_are_one_load_in_the_cluster() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), NODES, &config("stampede"))?;
    let loads = loads_of_a_stampede(&world, Duration::from_millis(200)).await?;
    ensure!(loads == 1, "{loads} loads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leases_each_node_loads() -> Result<()> {
    let redis = Redis::shared().await?;
    let config = CacheConfig { off: Some(Mechanism::Leases), ..config("stampede without leases") };
    let world = World::start(&redis.url(), NODES, &config)?;
    let loads = loads_of_a_stampede(&world, Duration::from_millis(200)).await?;
    ensure!(loads == NODES, "{loads} loads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_misses_at_once_are_one_load_on_a_node_without_redis() -> Result<()> {
    let world = World::alone(&config("alone"));
    let loads = loads_of_a_stampede(&world, Duration::from_millis(200)).await?;
    ensure!(loads == 1, "{loads} loads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_takes_longer_than_a_lease_keeps_its_lease() -> Result<()> {
    let redis = Redis::shared().await?;
    let settings = RedisConfig { lease: Duration::from_secs(1), ..patient(&redis.url())? };
    let world = World::start_with(&settings, NODES, &config("slow"))?;
    let loads = loads_of_a_stampede(&world, Duration::from_millis(2_500)).await?;
    ensure!(loads == 1, "{loads} loads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_a_node_that_died_ends() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), 1, &config("dead"))?;
    // A node took the lease for a second and died.
    let time = redis.cli(&["TIME"]).await?.texts();
    let ends = (time[0].parse::<u64>()? + 1) * 1_000_000 + time[1].parse::<u64>()?;
    let key = "starling:v1:cache:dead:k";
    redis.cli(&["HSET", key, "token", "of the dead", "lease", &ends.to_string()]).await?;
    world.table.commit("k", "value");
    let begun = Instant::now();
    ensure!(world.version(0, "k").await? == 1);
    ensure!(begun.elapsed() > Duration::from_millis(500), "the lease was ignored");
    ensure!(begun.elapsed() < PATIENCE);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_waiting_do_not_stop_the_load() -> Result<()> {
    let world = World::alone(&config("impatient"));
    world.table.commit("k", "value");
    world.table.delay(Duration::from_millis(100));
    let impatient = tokio::time::timeout(Duration::from_millis(5), world.version(0, "k")).await;
    ensure!(impatient.is_err());
    ensure!(world.version(0, "k").await? == 1);
    ensure!(world.table.loads() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_keys_than_allowed_are_refused_at_once() -> Result<()> {
    let world = World::alone(&CacheConfig { flights_max: 2, ..config("busy") });
    world.table.delay(Duration::from_millis(300));
    let node = &world.nodes[0];
    let (first, second, third) = tokio::join!(node.get("a"), node.get("b"), node.get("c"));
    ensure!(matches!(first, Ok(None)) && matches!(second, Ok(None)));
    ensure!(matches!(third, Err(Error::Busy)), "{third:?}");
    wait::until_true(PATIENCE, "room", async || Ok(node.get("c").await.is_ok())).await
}

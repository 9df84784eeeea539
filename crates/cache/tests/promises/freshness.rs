//! No reader sees a value that was replaced a second ago.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_cache::{CacheConfig, Mechanism};
use starling_testkit::redis::Redis;

use crate::world::{World, config};

const PROMISED: Duration = Duration::from_secs(1);
const NODES: usize = 3;

/// Changes a key again and again, and returns the staleness that the readers of all nodes met.
async fn staleness_under_changes(world: &World) -> Result<Duration> {
    world.change(0, "k", "first").await;
    let reading = world.worst_staleness("k", PROMISED * 2);
    let writing = async {
        for change in 0..40 {
            world.change(change % NODES, "k", &change.to_string()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (worst, ()) = tokio::join!(reading, writing);
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_by_every_node_within_a_second() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), NODES, &config("told"))?;
    let worst = staleness_under_changes(&world).await?;
    println!("the oldest value that was seen had been replaced {worst:?} before");
    ensure!(worst < PROMISED, "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_invalidation_a_change_is_not_seen_within_a_second() -> Result<()> {
    let redis = Redis::shared().await?;
    let config = CacheConfig { off: Some(Mechanism::Invalidation), ..config("untold") };
    let world = World::start(&redis.url(), NODES, &config)?;
    let worst = staleness_under_changes(&world).await?;
    ensure!(worst >= PROMISED, "{worst:?}");
    Ok(())
}

/// Loses all invalidations, changes a key, and returns the staleness that the readers met.
async fn staleness_after_a_loss(name: &'static str, process_ttl: Duration) -> Result<Duration> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), NODES, &CacheConfig { process_ttl, ..config(name) })?;
    world.cut_wire();
    world.change(0, "k", "first").await;
    for node in 0..NODES {
        world.version(node, "k").await?;
    }
    world.change(0, "k", "second").await;
    world.worst_staleness("k", PROMISED * 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_invalidation_the_lifetime_in_the_process_bounds_the_age() -> Result<()> {
    let worst = staleness_after_a_loss("lost", PROMISED).await?;
    ensure!(!worst.is_zero(), "no reader saw the older value, so that nothing was shown");
    ensure!(worst <= PROMISED, "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_lost_invalidation_a_long_lifetime_bounds_nothing() -> Result<()> {
    let worst = staleness_after_a_loss("lost for long", Duration::from_secs(60)).await?;
    ensure!(worst > PROMISED, "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_a_writer_puts_is_read_without_a_load() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), NODES, &config("put"))?;
    for text in ["first", "second"] {
        let version = world.table.commit("k", text);
        let row = crate::world::Row { text: text.into() };
        world.nodes[1].put("k", version, row.clone()).await;
        for node in &world.nodes {
            let found = node.get("k").await?.expect("a value");
            ensure!((found.version, &*found.value) == (version, &row));
        }
    }
    ensure!(world.table.loads() == 0);
    Ok(())
}

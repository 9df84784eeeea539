//! Writers that race leave the newest value everywhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_cache::CacheConfig;
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::world::{PATIENCE, Row, World, config};

const NODES: usize = 3;
const WRITERS: usize = 6;
const CHANGES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_race_never_take_a_reader_back() -> Result<()> {
    let redis = Redis::shared().await?;
    // Nothing leaves the process by its age, so that only versions decide.
    let config = CacheConfig { process_ttl: Duration::from_secs(600), ..config("race") };
    let world = World::start(&redis.url(), NODES, &config)?;
    world.table.commit("k", "first");
    world.table.delay(Duration::from_millis(2));
    let writing = (0..WRITERS).map(|writer| {
        let world = &world;
        async move {
            for change in 0..CHANGES {
                let text = format!("{writer} {change}");
                let version = world.table.commit("k", &text);
                // Each is held up for another time, so that they tell in another order than they committed.
                tokio::time::sleep(Duration::from_millis((writer * 7 + change * 3) as u64 % 11)).await;
                let node = &world.nodes[(writer + change) % NODES];
                match change % 2 {
                    0 => node.changed("k", version).await,
                    _ => node.put("k", version, Row { text }).await,
                }
            }
        }
    });
    let reading = (0..NODES).map(|node| {
        let world = &world;
        async move {
            let mut newest = 0;
            while newest < (WRITERS * CHANGES + 1) as u64 {
                let version = world.version(node, "k").await?;
                ensure!(version >= newest, "node {node} read {version} after {newest}");
                newest = version;
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    let all = async {
        tokio::join!(futures_util::future::join_all(writing), futures_util::future::try_join_all(reading)).1
    };
    tokio::time::timeout(PATIENCE, all).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_deleted_and_comes_back_is_seen() -> Result<()> {
    let redis = Redis::shared().await?;
    let world = World::start(&redis.url(), NODES, &config("deleted"))?;
    for _ in 0..5 {
        let version = world.change(0, "k", "there").await;
        for node in 0..NODES {
            ensure!(world.version(node, "k").await? == version);
        }
        let version = world.table.delete("k");
        world.nodes[1].changed("k", version).await;
        for node in &world.nodes {
            ensure!(node.get("k").await?.is_none());
        }
    }
    // Nobody was told: that there is nothing is not believed for long.
    let version = world.table.commit("k", "back");
    wait::until_true(PATIENCE, "the row", async || {
        Ok(world.nodes[2].get("k").await?.is_some_and(|found| found.version == version))
    })
    .await
}

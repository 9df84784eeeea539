//! The cache fed by the fan-out, as a node will do it: changes and gaps go through a real Redis.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_cache::redis::RedisLevel;
use starling_cache::{Announcer, Cache, CacheConfig, Invalidations};
use starling_fanout::redis::{RedisConfig, RedisFanout};
use starling_fanout::{Delivery, Fanout, Publication, Receiver};
use starling_testkit::redis::Redis;
use starling_testkit::wait;
use tokio::sync::mpsc;

use crate::world::{PATIENCE, Reader, World, config, patient};

const NODES: usize = 3;
/// The most changes that wait to be published.
const CHANGES_MAX: usize = 1_000;
/// All of a cache's changes take one partition here.
const PARTITION: u16 = 0;

/// A node's way to the others. An empty key says that it lost some of its changes.
struct Publisher(mpsc::Sender<(String, u64)>);

impl Announcer for Publisher {
    fn changed(&self, key: &str, version: u64) {
        self.0.try_send((key.to_owned(), version)).expect("the test changes less than fits");
    }

    fn lost(&self) {
        self.changed("", 0);
    }
}

/// Hands what a node hears to its cache, once there is one.
#[derive(Default)]
struct Hearing(Mutex<Option<Cache<Reader>>>);

impl Receiver for Hearing {
    fn receive(&self, delivery: Delivery) {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cache) = cache.as_ref() else { return };
        match delivery {
            Delivery::Publication { body, .. } => {
                let text = String::from_utf8_lossy(&body);
                match text.split_once(' ').map(|(version, key)| (version.parse(), key)) {
                    Some((Ok(version), key)) if !key.is_empty() => cache.invalidate(key, version),
                    _ => cache.gap(),
                }
            }
            Delivery::Gap { .. } => cache.gap(),
            _ => {}
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

/// Starts nodes that hear one another through the Redis that also holds their entries.
async fn start(redis: &Redis, config: &CacheConfig) -> Result<World> {
    let (mut announcers, mut hearings) = (Vec::new(), Vec::new());
    for node in 0..NODES {
        let fanout = RedisFanout::connect(RedisConfig::new(redis.url().parse()?, format!("n{node}")))?;
        let hearing = Arc::new(Hearing::default());
        fanout.start(hearing.clone()).await?;
        let (sender, mut changes) = mpsc::channel::<(String, u64)>(CHANGES_MAX);
        tokio::spawn(async move {
            while let Some((key, version)) = changes.recv().await {
                let body = format!("{version} {key}").into();
                // What is lost here is made up for by the gap that follows.
                let _ = fanout.publish(&[Publication::to_everyone(PARTITION, body)]).await;
            }
        });
        announcers.push(Arc::new(Publisher(sender)) as Arc<dyn Announcer>);
        hearings.push(hearing);
    }
    let settings = patient(&redis.url())?;
    let levels = (0..NODES).map(|_| RedisLevel::open(settings.clone())).collect::<Result<Vec<_>, _>>()?;
    let world = World::of(&levels, config, |node| Arc::clone(&announcers[node]));
    for (hearing, node) in hearings.iter().zip(&world.nodes) {
        *hearing.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
    }
    Ok(world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_every_node_within_a_second_through_the_fan_out() -> Result<()> {
    let redis = Redis::start().await?;
    // Long lives, so that only invalidations can help.
    let long = CacheConfig { process_ttl: Duration::from_secs(600), ..config("heard") };
    let world = start(&redis, &long).await?;
    world.change(0, "k", "first").await;
    let reading = world.worst_staleness("k", Duration::from_secs(2));
    let writing = async {
        for change in 0..100 {
            world.change(change % NODES, "k", &change.to_string()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (worst, ()) = tokio::join!(reading, writing);
    let worst = worst?;
    println!("the oldest value that was seen had been replaced {worst:?} before");
    ensure!(worst < Duration::from_secs(1), "{worst:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_the_fan_out_lost_is_seen_after_its_gap() -> Result<()> {
    let redis = Redis::start().await?;
    let long = CacheConfig { process_ttl: Duration::from_secs(600), ..config("missed by the fan-out") };
    let world = start(&redis, &long).await?;
    let first = world.change(0, "k", "first").await;
    for node in 0..NODES {
        ensure!(world.version(node, "k").await? == first);
    }
    // A change without a word to anybody: the node died after its commit, and Redis with it.
    let second = world.table.commit("k", "second");
    for node in 0..NODES {
        ensure!(world.version(node, "k").await? == first);
    }
    redis.kill().await?;
    redis.restart().await?;
    for node in 0..NODES {
        let is_seen = async || Ok(world.version(node, "k").await? == second);
        wait::until_true(PATIENCE, "the gap to be heard", is_seen).await.context(node)?;
    }
    Ok(())
}

//! Several nodes, each with its own cache, over one table and one Redis.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use starling_cache::redis::{RedisConfig, RedisLevel};
use starling_cache::{Announcer, Cache, CacheConfig, Invalidations, Loaded, NoOthers, Source};

/// How long a test waits for something that takes a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is cached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub text: String,
}

/// The source of truth, which remembers when each version was committed.
#[derive(Debug, Default)]
pub struct Table {
    rows: Mutex<HashMap<String, Vec<Commit>>>,
    pub loads: AtomicUsize,
    /// Whether loads fail.
    pub is_broken: AtomicBool,
    delay: Mutex<Duration>,
}

/// One version of a row; its number is its place.
#[derive(Debug)]
struct Commit {
    at: Instant,
    row: Option<Row>,
}

impl Table {
    /// Commits a new version, and returns it.
    pub fn commit(&self, key: &str, text: &str) -> u64 {
        self.push(key, Some(Row { text: text.into() }))
    }

    /// Deletes a row; that has a version, too.
    pub fn delete(&self, key: &str) -> u64 {
        self.push(key, None)
    }

    /// Lets each load take this long after it has read the row.
    pub fn delay(&self, delay: Duration) {
        *lock(&self.delay) = delay;
    }

    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Returns for how long a version had been replaced when a reader asked; zero if it was the newest.
    fn staleness(&self, key: &str, version: u64, asked: Instant) -> Duration {
        let rows = lock(&self.rows);
        let next = rows.get(key).and_then(|commits| commits.get(version as usize));
        next.map_or(Duration::ZERO, |next| asked.saturating_duration_since(next.at))
    }

    fn push(&self, key: &str, row: Option<Row>) -> u64 {
        let mut rows = lock(&self.rows);
        let commits = rows.entry(key.to_owned()).or_default();
        commits.push(Commit { at: Instant::now(), row });
        commits.len() as u64
    }
}

/// A node's way to the table.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Table>);

/// Why the table did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the table is broken")]
pub struct Broken;

#[async_trait]
impl Source for Reader {
    type Value = Row;
    type Error = Broken;

    async fn load(&self, key: &str) -> Result<Loaded<Row>, Broken> {
        let table = &self.0;
        table.loads.fetch_add(1, Ordering::SeqCst);
        let found = {
            let rows = lock(&table.rows);
            let commits = rows.get(key).map(Vec::as_slice).unwrap_or_default();
            commits.last().and_then(|commit| commit.row.clone()).map(|row| (commits.len() as u64, row))
        };
        let delay = *lock(&table.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if table.is_broken.load(Ordering::SeqCst) {
            return Err(Broken);
        }
        Ok(found.map_or(Loaded::Absent, |(version, value)| Loaded::Found { version, value }))
    }

    fn weight(&self, value: &Row) -> u32 {
        value.text.len() as u32
    }
}

/// What the nodes tell one another. It stands for the fan-out.
#[derive(Debug, Default)]
pub struct Wire {
    nodes: Mutex<Vec<Cache<Reader>>>,
    /// Whether everything is lost.
    pub is_cut: AtomicBool,
}

/// One node's end of the wire.
#[derive(Debug)]
struct End {
    wire: Weak<Wire>,
    own: usize,
}

impl End {
    fn others(&self) -> Vec<Cache<Reader>> {
        let Some(wire) = self.wire.upgrade().filter(|wire| !wire.is_cut.load(Ordering::SeqCst)) else {
            return Vec::new();
        };
        let nodes = lock(&wire.nodes);
        nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != self.own)
            .map(|(_, node)| node.clone())
            .collect()
    }
}

impl Announcer for End {
    fn changed(&self, key: &str, version: u64) {
        for node in self.others() {
            node.invalidate(key, version);
        }
    }

    fn lost(&self) {
        for node in self.others() {
            node.gap();
        }
    }
}

/// The table, the wire and the nodes.
#[derive(Debug)]
pub struct World {
    pub table: Arc<Table>,
    pub wire: Arc<Wire>,
    pub nodes: Vec<Cache<Reader>>,
}

impl World {
    /// Starts nodes over a Redis at this URL.
    pub fn start(url: &str, nodes: usize, config: &CacheConfig) -> Result<Self> {
        Self::start_with(&patient(url)?, nodes, config)
    }

    /// Starts nodes with these settings of the way to Redis.
    pub fn start_with(redis: &RedisConfig, nodes: usize, config: &CacheConfig) -> Result<Self> {
        let levels: Vec<Arc<RedisLevel>> =
            (0..nodes).map(|_| RedisLevel::open(redis.clone())).collect::<Result<_, _>>()?;
        let wire = Arc::<Wire>::default();
        let mut world = Self::of(&levels, config, |own| Arc::new(End { wire: Arc::downgrade(&wire), own }));
        lock(&wire.nodes).clone_from(&world.nodes);
        world.wire = wire;
        Ok(world)
    }

    /// Starts a node for each way to Redis, with what tells the others of its changes.
    pub fn of(
        levels: &[Arc<RedisLevel>],
        config: &CacheConfig,
        announcer: impl Fn(usize) -> Arc<dyn Announcer>,
    ) -> Self {
        let table = Arc::<Table>::default();
        let node = |(own, level): (usize, &Arc<RedisLevel>)| {
            let source = Reader(Arc::clone(&table));
            Cache::new(config.clone(), source, Some(Arc::clone(level)), announcer(own))
        };
        let nodes = levels.iter().enumerate().map(node).collect();
        Self { table, wire: Arc::default(), nodes }
    }

    /// Starts one node without Redis.
    pub fn alone(config: &CacheConfig) -> Self {
        let table = Arc::<Table>::default();
        let node = Cache::new(config.clone(), Reader(Arc::clone(&table)), None, Arc::new(NoOthers));
        Self { table, wire: Arc::default(), nodes: vec![node] }
    }

    /// Loses everything that the nodes tell one another from now on.
    pub fn cut_wire(&self) {
        self.wire.is_cut.store(true, Ordering::SeqCst);
    }

    /// Commits a change and tells of it through a node.
    pub async fn change(&self, node: usize, key: &str, text: &str) -> u64 {
        let version = self.table.commit(key, text);
        self.nodes[node].changed(key, version).await;
        version
    }

    /// Reads the version of a key on a node.
    pub async fn version(&self, node: usize, key: &str) -> Result<u64> {
        let found = self.nodes[node].get(key).await?;
        Ok(found.context("there is nothing")?.version)
    }

    /// Reads a key on all nodes for this long, and returns for how long the oldest value that was seen had been replaced when its reader
    /// asked. A machine that is busy for a while does not change that.
    pub async fn worst_staleness(&self, key: &str, time: Duration) -> Result<Duration> {
        let readers = (0..self.nodes.len()).map(|node| async move {
            let (begun, mut worst) = (Instant::now(), Duration::ZERO);
            while begun.elapsed() < time {
                let asked = Instant::now();
                let version = self.version(node, key).await?;
                worst = worst.max(self.table.staleness(key, version, asked));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(worst)
        });
        let worst = futures_util::future::try_join_all(readers).await?;
        Ok(worst.into_iter().max().unwrap_or_default())
    }
}

/// Returns settings under which a busy machine does not look like an outage.
pub fn patient(url: &str) -> Result<RedisConfig> {
    Ok(RedisConfig { command_timeout: Duration::from_secs(20), ..RedisConfig::new(url.parse()?) })
}

/// Returns settings with a name that no other test uses, since many share a Redis.
pub fn config(name: &'static str) -> CacheConfig {
    CacheConfig { early: 0.0, ..CacheConfig::new(name) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

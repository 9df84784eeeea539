//! What a cache and its lookups share: the levels, and how values enter them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::CacheConfig;
use crate::entry::{self, Entry, Versioned};
use crate::metrics::Metrics;
use crate::process::{Outdated, Process};
use crate::redis::RedisLevel;
use crate::source::Source;

/// The most loads at a time that nobody waits for.
const EARLY_LOADS_MAX: usize = 64;

/// The levels of a cache.
pub(crate) struct Levels<S: Source> {
    pub(crate) config: CacheConfig,
    pub(crate) source: S,
    pub(crate) process: Process<S::Value>,
    pub(crate) redis: Option<Arc<RedisLevel>>,
    pub(crate) metrics: Metrics,
    /// A permit for each further load that nobody waits for.
    pub(crate) early_loads: Arc<Semaphore>,
}

impl<S: Source> Levels<S> {
    /// Makes empty levels. Without Redis there are two.
    pub(crate) fn new(config: CacheConfig, source: S, redis: Option<Arc<RedisLevel>>) -> Self {
        Self {
            process: Process::new(&config),
            metrics: Metrics::register(config.name),
            early_loads: Arc::new(Semaphore::new(EARLY_LOADS_MAX)),
            config,
            source,
            redis,
        }
    }

    /// Makes an entry of what was loaded from `begun` until now.
    pub(crate) fn loaded(&self, known: Option<Versioned<S::Value>>, begun: Instant) -> Arc<Entry<S::Value>> {
        let ttl = if known.is_some() { self.config.process_ttl } else { self.config.absent_ttl };
        self.entry(known, begun, ttl, begun.elapsed())
    }

    /// Makes an entry that lives for at most this time since `as_of`.
    pub(crate) fn entry(
        &self,
        known: Option<Versioned<S::Value>>,
        as_of: Instant,
        ttl: Duration,
        cost: Duration,
    ) -> Arc<Entry<S::Value>> {
        let weight = known.as_ref().map_or(0, |found| self.source.weight(&found.value));
        let expires = as_of + entry::with_jitter(ttl, entry::random());
        Arc::new(Entry { known, as_of, expires, cost, weight })
    }

    /// Keeps an entry in the process, unless it is outdated.
    pub(crate) fn keep(&self, key: &str, entry: &Arc<Entry<S::Value>>) -> Result<(), Outdated> {
        self.process.insert(key, entry)?;
        self.metrics.bytes.set(self.process.weight() as f64);
        Ok(())
    }

    /// Returns a value as Redis keeps it; `None` if it is too large or can't be written.
    pub(crate) fn encode(&self, value: &S::Value) -> Option<Vec<u8>> {
        match rmp_serde::to_vec_named(value) {
            Ok(bytes) => (bytes.len() <= self.config.redis_bytes_max).then_some(bytes),
            Err(error) => {
                tracing::error!(%error, cache = self.config.name, "a value can't be written to Redis");
                None
            }
        }
    }
}

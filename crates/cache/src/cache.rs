//! The cache as its users see it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use starling_redis_link::PIPELINE_MAX;
use tokio::time::Instant;

use crate::config::{CacheConfig, KEY_BYTES_MAX, Mechanism};
use crate::entry::{self, Versioned};
use crate::error::Error;
use crate::filling::{self, Answer, Answered, Filling, Occasion};
use crate::flights::{Boarded, Flights};
use crate::invalidation::{Announcer, Invalidations};
use crate::levels::Levels;
use crate::pending::Pending;
use crate::redis::{Fill, Filled, RedisLevel};
use crate::source::Source;

/// How often Redis is tried again with changes that it was not told.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A cache over one source. Its clones are the same cache.
#[derive(Debug)]
pub struct Cache<S: Source> {
    inner: Arc<Inner<S>>,
}

/// What the clones of a cache share.
struct Inner<S: Source> {
    levels: Arc<Levels<S>>,
    flights: Flights<Answer<S>>,
    announcer: Arc<dyn Announcer>,
    pending: Pending,
}

impl<S: Source> Cache<S> {
    /// Makes an empty cache. Without Redis it has two levels. Must be called within a Tokio runtime.
    pub fn new(
        config: CacheConfig,
        source: S,
        redis: Option<Arc<RedisLevel>>,
        announcer: Arc<dyn Announcer>,
    ) -> Self {
        let inner = Arc::new(Inner {
            flights: Flights::new(config.flights_max),
            levels: Arc::new(Levels::new(config, source, redis)),
            announcer,
            pending: Pending::default(),
        });
        if inner.levels.redis.is_some() {
            tokio::spawn(tell_redis(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Returns the value of a key, or `None` if the source has nothing.
    ///
    /// # Errors
    /// [`Error::Source`], [`Error::TimedOut`] and [`Error::Ended`] if nobody had the value and it could not be loaded, [`Error::Busy`] if too
    /// many keys are being looked up, [`Error::Key`] if the key is too long.
    pub async fn get(&self, key: &str) -> Result<Option<Versioned<S::Value>>, Error<S::Error>> {
        let inner = &self.inner;
        if key.len() > KEY_BYTES_MAX {
            return Err(Error::Key);
        }
        let now = Instant::now();
        let Some(found) = inner.levels.process.get(key, now) else {
            inner.levels.metrics.process.misses.increment(1);
            return inner.look_up(key).await;
        };
        inner.levels.metrics.process.hits.increment(1);
        let earliness = entry::earliness(inner.levels.config.early, entry::random());
        if entry::is_due(found.expires.saturating_duration_since(now), found.cost, earliness) {
            // It goes on by itself.
            drop(inner.board(key, Occasion::Soon, || None));
        }
        Ok(found.known.clone())
    }

    /// Drops what is older than this version, here and on all nodes. To be called after the commit of a change.
    ///
    /// Other nodes are told at once, and Redis within [`RedisConfig::command_timeout`](crate::redis::RedisConfig::command_timeout). A Redis
    /// that is away is told when it is back.
    pub async fn changed(&self, key: &str, version: u64) {
        let inner = &self.inner;
        if !inner.levels.config.has(Mechanism::Invalidation) || key.len() > KEY_BYTES_MAX {
            return;
        }
        inner.levels.process.invalidate(key, version);
        inner.announcer.changed(key, version);
        let Some(redis) = &inner.levels.redis else { return };
        inner.tell(redis, key, version).await;
    }

    /// Keeps a value here and in Redis, and drops what is older on all nodes. To be called after the commit of a change by those who have the
    /// new value; otherwise like [`changed`](Self::changed).
    pub async fn put(&self, key: &str, version: u64, value: S::Value) {
        let inner = &self.inner;
        if !inner.levels.config.has(Mechanism::Invalidation) || key.len() > KEY_BYTES_MAX {
            return;
        }
        let begun = Instant::now();
        let bytes = inner.levels.redis.as_ref().and_then(|_| inner.levels.encode(&value));
        let found = Versioned { version, value: Arc::new(value) };
        inner.levels.process.invalidate(key, version);
        if inner.levels.keep(key, &inner.levels.loaded(Some(found), begun)).is_err() {
            inner.levels.metrics.process.outdated.increment(1);
        }
        inner.announcer.changed(key, version);
        let Some(redis) = &inner.levels.redis else { return };
        if !inner.tell(redis, key, version).await {
            return;
        }
        let Some(bytes) = bytes else { return };
        let (key, token) = (redis.key(inner.levels.config.name, key), filling::token());
        let ttl = entry::with_jitter(inner.levels.config.redis_ttl, entry::random());
        let found = Some((version, &bytes[..]));
        let put = Fill { key: &key, token: &token, found, ttl, cost: begun.elapsed() };
        // If Redis is away, the value is loaded later.
        if matches!(redis.put(put).await, Ok(Filled::Outdated)) {
            inner.levels.metrics.redis.outdated.increment(1);
        }
    }
}

impl<S: Source> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S: Source> Invalidations for Cache<S> {
    fn invalidate(&self, key: &str, version: u64) {
        if self.inner.levels.config.has(Mechanism::Invalidation) && key.len() <= KEY_BYTES_MAX {
            self.inner.levels.process.invalidate(key, version);
        }
    }

    fn gap(&self) {
        self.inner.gap();
    }
}

impl<S: Source> Inner<S> {
    /// Finds what the process does not have.
    async fn look_up(self: &Arc<Self>, key: &str) -> Result<Option<Versioned<S::Value>>, Error<S::Error>> {
        let mut has_joined = false;
        loop {
            let answered = match self.board(key, Occasion::Miss, || self.landed(key)) {
                Boarded::Begun(flight) => flight.await?,
                Boarded::Joined(flight) => {
                    let answered = flight.await?;
                    if answered.is_outdated && !has_joined {
                        // It may have been loaded before this caller asked. The next one is not.
                        has_joined = true;
                        continue;
                    }
                    answered
                }
                Boarded::Landed(answer) => answer?,
                Boarded::Full => return Err(Error::Busy),
            };
            return Ok(answered.known);
        }
    }

    fn board(
        self: &Arc<Self>,
        key: &str,
        occasion: Occasion,
        landed: impl FnOnce() -> Option<Answer<S>>,
    ) -> Boarded<Answer<S>> {
        let lookup = || Filling::new(Arc::clone(&self.levels), key, occasion).run().boxed();
        self.flights.board(key, landed, lookup, Err(Error::Ended))
    }

    fn landed(&self, key: &str) -> Option<Answer<S>> {
        let found = self.levels.process.get(key, Instant::now())?;
        Some(Ok(Answered { known: found.known.clone(), is_outdated: false }))
    }

    fn gap(&self) {
        if self.levels.config.has(Mechanism::Gaps) {
            self.levels.metrics.gaps.increment(1);
            self.levels.process.gap();
        }
    }

    /// Tells Redis of a change; later, if it is away. Returns whether it was told.
    async fn tell(&self, redis: &RedisLevel, key: &str, version: u64) -> bool {
        let telling = self.pending.tell(key, version);
        let is_told = redis.invalidate(&[(redis.key(self.levels.config.name, key), version)]).await.is_ok();
        if is_told {
            telling.done();
        }
        is_told
    }

    /// Tells Redis some of the changes that it was not told. Returns whether there may be more to tell now.
    async fn tell_some(&self, redis: &RedisLevel) -> bool {
        let changes: Vec<(String, u64)> = self
            .pending
            .some(PIPELINE_MAX)
            .into_iter()
            .map(|(key, version)| (key.into_string(), version))
            .collect();
        self.levels.metrics.pending.set(changes.len() as f64);
        if changes.is_empty() {
            return false;
        }
        let of_redis = changes
            .iter()
            .map(|(key, version)| (redis.key(self.levels.config.name, key), *version))
            .collect::<Vec<_>>();
        if redis.invalidate(&of_redis).await.is_err() {
            return false;
        }
        for (key, version) in &changes {
            self.pending.told(key, *version);
        }
        true
    }
}

impl<S: Source> std::fmt::Debug for Inner<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("config", &self.levels.config)
            .field("process", &self.levels.process)
            .field("flights", &self.flights)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// Tells Redis what it was not told while it was away, until the cache is dropped.
async fn tell_redis<S: Source>(inner: Weak<Inner<S>>) {
    loop {
        tokio::time::sleep(RETRY_INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        let Some(redis) = &inner.levels.redis else { return };
        while inner.tell_some(redis).await {}
        if inner.pending.len() == 0 && inner.pending.take_loss() {
            tracing::warn!(
                cache = inner.levels.config.name,
                "more was changed while Redis was away than this node remembers; everything cached is dropped"
            );
            inner.gap();
            inner.announcer.lost();
        }
    }
}

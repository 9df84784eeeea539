//! The cache as its users see it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use starling_redis_link::PIPELINE_MAX;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{CacheConfig, Mechanism};
use crate::entry::{self, Entry, Versioned};
use crate::error::Error;
use crate::filling::{self, Filling};
use crate::flights::{Boarded, Flights};
use crate::invalidation::{Announcer, Invalidations};
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::process::Process;
use crate::redis::{Fill, Filled, RedisLevel};
use crate::source::Source;

/// The longest key, bytes.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// The most loads at a time that nobody waits for.
const EARLY_LOADS_MAX: usize = 64;
/// How often Redis is tried again with changes that it was not told.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How a lookup ends.
pub(crate) type Answer<S> = Result<Answered<<S as Source>::Value>, Error<<S as Source>::Error>>;

/// What a lookup finds: a value, or that the source has nothing.
#[derive(Debug)]
pub(crate) struct Answered<V> {
    pub(crate) known: Option<Versioned<V>>,
    /// Whether a change was heard of meanwhile, so that it is not kept.
    pub(crate) is_outdated: bool,
}

impl<V> Clone for Answered<V> {
    fn clone(&self) -> Self {
        Self { known: self.known.clone(), is_outdated: self.is_outdated }
    }
}

/// A cache over one source. Its clones are the same cache.
#[derive(Debug)]
pub struct Cache<S: Source> {
    inner: Arc<Inner<S>>,
}

/// What a cache and its flights share.
pub(crate) struct Inner<S: Source> {
    pub(crate) config: CacheConfig,
    pub(crate) source: S,
    pub(crate) process: Process<S::Value>,
    pub(crate) redis: Option<Arc<RedisLevel>>,
    pub(crate) metrics: Metrics,
    flights: Flights<Answer<S>>,
    /// A permit for each further load that nobody waits for.
    pub(crate) early_loads: Arc<Semaphore>,
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
            process: Process::new(&config),
            flights: Flights::new(config.flights_max),
            metrics: Metrics::register(config.name),
            early_loads: Arc::new(Semaphore::new(EARLY_LOADS_MAX)),
            pending: Pending::default(),
            config,
            source,
            redis,
            announcer,
        });
        if inner.redis.is_some() {
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
        let Some(found) = inner.process.get(key, now) else {
            inner.metrics.process.misses.increment(1);
            return inner.look_up(key).await;
        };
        inner.metrics.process.hits.increment(1);
        let earliness = entry::earliness(inner.config.early, entry::random());
        if entry::is_due(found.expires.saturating_duration_since(now), found.cost, earliness)
            // It goes on by itself.
            && let Boarded::Begun(_) = inner.board(key, || None)
        {
            inner.metrics.early.increment(1);
        }
        Ok(found.known.clone())
    }

    /// Drops what is older than this version, here and on all nodes. To be called after the commit of a change.
    ///
    /// Other nodes are told at once, and Redis within [`RedisConfig::command_timeout`](crate::redis::RedisConfig::command_timeout). A Redis
    /// that is away is told when it is back.
    pub async fn changed(&self, key: &str, version: u64) {
        let inner = &self.inner;
        if !inner.config.has(Mechanism::Invalidation) || key.len() > KEY_BYTES_MAX {
            return;
        }
        inner.process.invalidate(key, version);
        inner.announcer.changed(key, version);
        let Some(redis) = &inner.redis else { return };
        inner.tell(redis, key, version).await;
    }

    /// Keeps a value here and in Redis, and drops what is older on all nodes. To be called after the commit of a change by those who have the
    /// new value; otherwise like [`changed`](Self::changed).
    pub async fn put(&self, key: &str, version: u64, value: S::Value) {
        let inner = &self.inner;
        if !inner.config.has(Mechanism::Invalidation) || key.len() > KEY_BYTES_MAX {
            return;
        }
        let begun = Instant::now();
        let bytes = inner.redis.as_ref().and_then(|_| inner.encode(&value));
        let found = Versioned { version, value: Arc::new(value) };
        inner.process.invalidate(key, version);
        if inner.keep(key, &inner.loaded(Some(found), begun)).is_err() {
            inner.metrics.process.outdated.increment(1);
        }
        inner.announcer.changed(key, version);
        let Some(redis) = &inner.redis else { return };
        if !inner.tell(redis, key, version).await {
            return;
        }
        let Some(bytes) = bytes else { return };
        let (key, token) = (redis.key(inner.config.name, key), filling::token());
        let ttl = entry::with_jitter(inner.config.redis_ttl, entry::random());
        let found = Some((version, &bytes[..]));
        let put = Fill { key: &key, token: &token, found, ttl, cost: begun.elapsed() };
        // If Redis is away, the value is loaded later.
        if matches!(redis.put(put).await, Ok(Filled::Outdated)) {
            inner.metrics.redis.outdated.increment(1);
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
        if self.inner.config.has(Mechanism::Invalidation) && key.len() <= KEY_BYTES_MAX {
            self.inner.process.invalidate(key, version);
        }
    }

    fn gap(&self) {
        self.inner.gap();
    }
}

impl<S: Source> Inner<S> {
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
    pub(crate) fn keep(
        &self,
        key: &str,
        entry: &Arc<Entry<S::Value>>,
    ) -> Result<(), crate::process::Outdated> {
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

    /// Finds what the process does not have.
    async fn look_up(self: &Arc<Self>, key: &str) -> Result<Option<Versioned<S::Value>>, Error<S::Error>> {
        let mut has_joined = false;
        loop {
            let answered = match self.board(key, || self.landed(key)) {
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

    fn board(self: &Arc<Self>, key: &str, landed: impl FnOnce() -> Option<Answer<S>>) -> Boarded<Answer<S>> {
        let lookup = || Filling::new(Arc::clone(self), key).run().boxed();
        self.flights.board(key, landed, lookup, Err(Error::Ended))
    }

    fn landed(&self, key: &str) -> Option<Answer<S>> {
        let found = self.process.get(key, Instant::now())?;
        Some(Ok(Answered { known: found.known.clone(), is_outdated: false }))
    }

    fn gap(&self) {
        if self.config.has(Mechanism::Gaps) {
            self.metrics.gaps.increment(1);
            self.process.gap();
        }
    }

    /// Tells Redis of a change; later, if it is away. Returns whether it was told.
    async fn tell(&self, redis: &RedisLevel, key: &str, version: u64) -> bool {
        let telling = self.pending.tell(key, version);
        let is_told = redis.invalidate(&[(redis.key(self.config.name, key), version)]).await.is_ok();
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
        self.metrics.pending.set(changes.len() as f64);
        if changes.is_empty() {
            return false;
        }
        let of_redis = changes
            .iter()
            .map(|(key, version)| (redis.key(self.config.name, key), *version))
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
            .field("config", &self.config)
            .field("process", &self.process)
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
        let Some(redis) = &inner.redis else { return };
        while inner.tell_some(redis).await {}
        if inner.pending.len() == 0 && inner.pending.take_loss() {
            tracing::warn!(
                cache = inner.config.name,
                "more was changed while Redis was away than this node remembers; everything cached is dropped"
            );
            inner.gap();
            inner.announcer.lost();
        }
    }
}

//! A lookup below the process: in Redis, and by a load.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::Loaded;
use crate::config::Mechanism;
use crate::entry::{self, Entry, Versioned};
use crate::error::Error;
use crate::levels::Levels;
use crate::metrics::LoadOutcome;
use crate::process::{FLOOR_LIFE, Outdated};
use crate::redis::{Ask, Fill, Filled, RedisLevel, Seen, State};
use crate::source::Source;

/// How often a lookup begins again because what it found was outdated by a change meanwhile. What it finds then is not kept.
const TRIES_MAX: u32 = 3;
/// The pauses between two looks for the value that another node loads.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The most time for a load, shorter than changes are remembered.
const LOAD_MAX: Duration = FLOOR_LIFE.saturating_sub(Duration::from_secs(5));

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

/// Why a lookup begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The process has nothing.
    Miss,
    /// What the process has ends soon.
    Soon,
}

/// One lookup.
pub(crate) struct Filling<S: Source> {
    levels: Arc<Levels<S>>,
    key: Box<str>,
    occasion: Occasion,
    /// The key in Redis; empty without Redis.
    redis_key: String,
    /// The token with which this lookup takes leases.
    token: String,
}

/// What a lookup must do after it has read Redis.
enum Found<V> {
    /// Nothing: this is the answer.
    Entry(Arc<Entry<V>>),
    /// Nothing now, but the entry ends soon and this node has the lease to load it.
    Soon(Arc<Entry<V>>),
    /// A load, with or without the lease.
    Load { is_leased: bool },
}

/// The result of a load.
enum Brought<V> {
    /// It is kept.
    Kept(Option<Versioned<V>>),
    /// It may be outdated and is not kept.
    Outdated(Option<Versioned<V>>),
}

impl<S: Source> Filling<S> {
    pub(crate) fn new(levels: Arc<Levels<S>>, key: &str, occasion: Occasion) -> Self {
        let redis_key =
            levels.redis.as_ref().map(|redis| redis.key(levels.config.name, key)).unwrap_or_default();
        Self { levels, key: key.into(), occasion, redis_key, token: token() }
    }

    /// Looks the key up, and keeps what it finds.
    pub(crate) async fn run(self) -> Answer<S> {
        let mut newest = None;
        for attempt in 0..TRIES_MAX {
            let is_leased = match self.look().await {
                Found::Entry(entry) => return Ok(kept(entry.known.clone())),
                Found::Soon(entry) => {
                    self.load_early().await;
                    return Ok(kept(entry.known.clone()));
                }
                Found::Load { is_leased } => is_leased,
            };
            if attempt == 0 && self.occasion == Occasion::Soon {
                self.levels.metrics.early.increment(1);
            }
            match self.load(is_leased).await? {
                Brought::Kept(known) => return Ok(kept(known)),
                Brought::Outdated(known) => newest = known,
            }
        }
        // It is changed all the time. Those who asked before this lookup began get it: it is as new as without a cache.
        Ok(Answered { known: newest, is_outdated: true })
    }

    /// Loads the value anew while others use the one that ends soon. The lease lets one node alone do this.
    async fn load_early(self) {
        let Ok(permit) = Arc::clone(&self.levels.early_loads).try_acquire_owned() else {
            self.give_back().await;
            return;
        };
        self.levels.metrics.early.increment(1);
        tokio::spawn(async move {
            let _permit = permit;
            // An error is met by those who have to wait for a value.
            let _ = self.load(true).await;
        });
    }

    /// Looks in Redis, and waits for a value that another node loads.
    async fn look(&self) -> Found<S::Value> {
        let Some(redis) = &self.levels.redis else { return Found::Load { is_leased: false } };
        let begun = Instant::now();
        let (mut pause, mut must_load) = (PAUSE_MIN, false);
        loop {
            let sent = Instant::now();
            let ask = Ask {
                key: &self.redis_key,
                token: &self.token,
                loaded_since: self.loaded_since(redis),
                earliness: entry::earliness(self.levels.config.early, entry::random()),
                must_load,
            };
            let Ok(seen) = redis.read(ask).await else {
                self.levels.metrics.redis.misses.increment(1);
                return Found::Load { is_leased: false };
            };
            let (is_leased, wait) = (seen.is_leased, seen.wait);
            if let Some(known) = self.decode(&seen) {
                let entry = self.entry(known, &seen, sent);
                if self.levels.keep(&self.key, &entry).is_ok() {
                    self.levels.metrics.redis.hits.increment(1);
                    return if is_leased { Found::Soon(entry) } else { Found::Entry(entry) };
                }
                self.levels.metrics.redis.outdated.increment(1);
            }
            let holds_something = !matches!(seen.state, State::Nothing);
            if holds_something && !is_leased && !must_load {
                // It can't be used. The next read takes the lease.
                must_load = true;
                continue;
            }
            let waits = !is_leased && !wait.is_zero() && begun.elapsed() < self.levels.config.cluster_wait;
            if !waits || !self.levels.config.has(Mechanism::Leases) {
                self.levels.metrics.redis.misses.increment(1);
                return Found::Load { is_leased };
            }
            sleep(wait.min(entry::with_jitter(pause, entry::random()))).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // What the other node has loaded meanwhile may be used.
            must_load = false;
        }
    }

    /// Returns the time before which loads in Redis may have missed a change.
    fn loaded_since(&self, redis: &RedisLevel) -> Option<Instant> {
        let failure = redis.last_failure().filter(|_| self.levels.config.has(Mechanism::Distrust));
        failure.max(self.levels.process.last_gap())
    }

    /// Returns what Redis knows, if it can be read.
    fn decode(&self, seen: &Seen) -> Option<Option<Versioned<S::Value>>> {
        let (version, bytes) = match &seen.state {
            State::Nothing => return None,
            State::Absent => return Some(None),
            State::Found { version, bytes } => (*version, bytes),
        };
        match rmp_serde::from_slice(bytes) {
            Ok(value) => Some(Some(Versioned { version, value: Arc::new(value) })),
            Err(error) => {
                self.levels.metrics.malformed.increment(1);
                tracing::debug!(%error, cache = self.levels.config.name, "an entry in Redis can't be read");
                None
            }
        }
    }

    /// Makes an entry of what Redis knows.
    fn entry(&self, known: Option<Versioned<S::Value>>, seen: &Seen, sent: Instant) -> Arc<Entry<S::Value>> {
        let cost = sent.elapsed();
        if known.is_some() {
            return self.levels.entry(known, sent, seen.left.min(self.levels.config.process_ttl), cost);
        }
        // It has no version, so its time must tell whether it is older than a change.
        let loaded = seen.loaded.unwrap_or(self.levels.process.opened());
        let ttl = sent.saturating_duration_since(loaded) + seen.left;
        self.levels.entry(None, loaded, ttl.min(self.levels.config.absent_ttl), cost)
    }

    /// Loads the value and keeps it. Under a lease, the other nodes get it, too.
    async fn load(&self, is_leased: bool) -> Result<Brought<S::Value>, Error<S::Error>> {
        let redis = self.levels.redis.as_ref().filter(|_| is_leased);
        let begun = Instant::now();
        let loaded = match redis {
            Some(redis) => tokio::select! {
                loaded = self.call_source() => loaded,
                never = self.renew(redis) => match never {},
            },
            None => self.call_source().await,
        };
        let known = match loaded {
            Ok(Loaded::Found { version, value }) => Some(Versioned { version, value: Arc::new(value) }),
            Ok(Loaded::Absent) => None,
            Err(error) => {
                if is_leased {
                    self.give_back().await;
                }
                return Err(error);
            }
        };
        let is_outdated = match redis {
            Some(redis) => self.is_refused(redis, known.as_ref(), begun).await,
            None => false,
        };
        if is_outdated {
            self.levels.metrics.redis.outdated.increment(1);
            return Ok(Brought::Outdated(known));
        }
        match self.levels.keep(&self.key, &self.levels.loaded(known.clone(), begun)) {
            Ok(()) => Ok(Brought::Kept(known)),
            Err(Outdated) => {
                self.levels.metrics.process.outdated.increment(1);
                Ok(Brought::Outdated(known))
            }
        }
    }

    async fn call_source(&self) -> Result<Loaded<S::Value>, Error<S::Error>> {
        let begun = Instant::now();
        let limit = self.levels.config.load_timeout.min(LOAD_MAX);
        let loaded = match timeout(limit, self.levels.source.load(&self.key)).await {
            Ok(loaded) => loaded.map_err(|error| Error::Source(Arc::new(error))),
            Err(_) => Err(Error::TimedOut(limit)),
        };
        let outcome = match &loaded {
            Ok(Loaded::Found { .. }) => LoadOutcome::Found,
            Ok(Loaded::Absent) => LoadOutcome::Absent,
            Err(Error::TimedOut(_)) => LoadOutcome::TimedOut,
            Err(_) => LoadOutcome::Failed,
        };
        self.levels.metrics.loaded(outcome, begun.elapsed());
        loaded
    }

    /// Keeps the lease while the source is working.
    async fn renew(&self, redis: &RedisLevel) -> Infallible {
        loop {
            sleep(redis.lease() / 4).await;
            // A lease that can't be renewed only means that another node may load, too.
            let _ = redis.renew(&self.redis_key, &self.token).await;
        }
    }

    /// Gives the lease back. If that fails, it ends by itself.
    async fn give_back(&self) {
        if let Some(redis) = &self.levels.redis {
            let _ = redis.release(&self.redis_key, &self.token).await;
        }
    }

    /// Writes what was loaded into Redis. Returns whether Redis knows that it is outdated.
    async fn is_refused(
        &self,
        redis: &RedisLevel,
        known: Option<&Versioned<S::Value>>,
        begun: Instant,
    ) -> bool {
        let cost = begun.elapsed();
        let bytes = known.map(|found| self.levels.encode(&found.value));
        let (found, ttl) = match (known, &bytes) {
            (Some(found), Some(Some(bytes))) => {
                (Some((found.version, &bytes[..])), self.levels.config.redis_ttl)
            }
            (None, _) => (None, self.levels.config.absent_ttl),
            // Too large for Redis.
            _ => {
                self.give_back().await;
                return false;
            }
        };
        let fill = Fill {
            key: &self.redis_key,
            token: &self.token,
            found,
            ttl: entry::with_jitter(ttl, entry::random()),
            cost,
        };
        match redis.fill(fill).await {
            Ok(Filled::Outdated) => true,
            // A value has its version, but that there is nothing may be outdated by the change that broke the lease.
            Ok(Filled::Unleased) => known.is_none(),
            Ok(Filled::Written | Filled::NoRoom) | Err(_) => false,
        }
    }
}

fn kept<V>(known: Option<Versioned<V>>) -> Answered<V> {
    Answered { known, is_outdated: false }
}

/// Returns a new token with which to take a lease.
pub(crate) fn token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

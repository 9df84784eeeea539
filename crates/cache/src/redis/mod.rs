//! The second level: entries in Redis 7 or later, which all nodes share.
//!
//! | key | what | lifetime |
//! |---|---|---|
//! | `starling:v1:cache:NAME:KEY` | hash: `state`, `version`, `value`, `loaded`, `expires`, `cost`; `token`, `lease` and `granted` while a node loads; `floor` after a change | the value's, half a minute after a change |
//! | `starling:v1:cache:room` | written to learn whether Redis accepts writes | a minute |
//!
//! The prefix `starling:v1:` can be configured. Versions are written with 20 digits, so that the scripts compare them as text: Lua's numbers
//! have 53 bits. Times are by the server's clock, in microseconds of Unix time.

mod script;

use std::sync::{Arc, Weak};
use std::time::Duration;

use fred::types::Value;
use parking_lot::Mutex;
use starling_redis_link::{
    Command, Connection, Error, PIPELINE_MAX, Pool, PoolConfig, PoolMetrics, RedisAddress, Resend,
};
use tokio::time::Instant;

use crate::metrics::RedisMetrics;
use crate::process::FLOOR_LIFE;
use script::{FILL, Scripts};

/// How often a node without other calls asks whether Redis answers, so that it learns of an outage that no caller met.
const PING_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of a [`RedisLevel`].
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where Redis is.
    pub address: RedisAddress,
    /// Number of connections to each server.
    pub connections: usize,
    /// The time that a call may take. A reader waits no longer for a Redis that is silent, and not at all once that is known.
    pub command_timeout: Duration,
    /// How long a node may load without a sign of life until another one may. A node that loads renews its lease four times as often.
    pub lease: Duration,
    /// The prefix of all keys.
    pub prefix: String,
}

impl RedisConfig {
    /// Returns the default settings for a Redis at this address.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            connections: 2,
            command_timeout: Duration::from_millis(250),
            lease: Duration::from_secs(2),
            prefix: "starling:v1:".into(),
        }
    }
}

/// The way to the entries in Redis. The caches of a node share one.
#[derive(Debug)]
pub struct RedisLevel {
    pool: Pool,
    scripts: Scripts,
    prefix: String,
    lease: Duration,
    metrics: RedisMetrics,
    contact: Mutex<Contact>,
}

/// When Redis was heard of.
#[derive(Debug, Default)]
struct Contact {
    /// Time of the last outcome of a call, of either kind.
    any: Option<Instant>,
    /// Time of the last failure.
    failed: Option<Instant>,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The key in Redis.
    pub(crate) key: &'a str,
    /// The token of the lease, if it has to be taken.
    pub(crate) token: &'a str,
    /// An entry whose load began earlier is ignored.
    pub(crate) loaded_since: Option<Instant>,
    /// How long before its expiry an entry is refreshed, in multiples of its load time.
    pub(crate) earliness: f64,
    /// Whether it is loaded in any case.
    pub(crate) must_load: bool,
}

/// What Redis says of a key.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// Whether this node has the lease, and has to load.
    pub(crate) is_leased: bool,
    /// How long another node's lease still runs.
    pub(crate) wait: Duration,
    /// A time at which the load had not begun yet, if this process is as old.
    pub(crate) loaded: Option<Instant>,
    /// What is left of its life.
    pub(crate) left: Duration,
}

/// What Redis holds of a key.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing that may be used.
    Nothing,
    /// A value.
    Found { version: u64, bytes: Vec<u8> },
    /// That the source has nothing.
    Absent,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill<'a> {
    /// The key in Redis.
    pub(crate) key: &'a str,
    /// The token of the lease under which it was loaded.
    pub(crate) token: &'a str,
    /// The version and the value; `None` if the source has nothing.
    pub(crate) found: Option<(u64, &'a [u8])>,
    /// How long Redis keeps the entry.
    pub(crate) ttl: Duration,
    /// What loading took.
    pub(crate) cost: Duration,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    Written,
    /// The lease is over, or a change broke it.
    Unleased,
    /// Redis is full, or something else has the key.
    NoRoom,
    /// A newer version is known.
    Outdated,
}

impl RedisLevel {
    /// Starts to connect, and goes on trying; Redis need not be there yet. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] if the address can't be used.
    pub fn open(config: RedisConfig) -> Result<Arc<Self>, Error> {
        Self::open_with(config, FILL)
    }

    /// Opens with another text of the script that fills.
    fn open_with(config: RedisConfig, fill: &str) -> Result<Arc<Self>, Error> {
        let RedisConfig { address, connections, command_timeout, lease, prefix } = config;
        let (scripts, metrics) = (Scripts::new(fill), RedisMetrics::register());
        let counters = PoolMetrics {
            script_loads: metrics.script_loads.clone(),
            refused: metrics.refused.clone(),
            reconnects: metrics.reconnects.clone(),
        };
        let probe_key = format!("{prefix}cache:room");
        let pool = PoolConfig { address, connections, command_timeout, probe_key, scripts: scripts.all() };
        let pool = Pool::open(pool, counters)?;
        let level = Arc::new(Self { pool, scripts, prefix, lease, metrics, contact: Mutex::default() });
        tokio::spawn(keep_contact(Arc::downgrade(&level)));
        Ok(level)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Returns the key in Redis of a cache's key.
    pub(crate) fn key(&self, cache: &str, key: &str) -> String {
        format!("{}cache:{cache}:{key}", self.prefix)
    }

    /// Returns how long a lease runs.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns the time of the last call that failed. Until then changes may have been missed here.
    pub(crate) fn last_failure(&self) -> Option<Instant> {
        self.contact.lock().failed
    }

    /// Reads an entry, and takes the lease if it has to be loaded.
    pub(crate) async fn read(&self, ask: Ask<'_>) -> Result<Seen, Error> {
        let sent = Instant::now();
        let age_max = ask.loaded_since.map(|since| micros(sent.saturating_duration_since(since)));
        let read = self
            .scripts
            .read
            .call(vec![ask.key.to_owned()])
            .with(ask.token)
            .with(millis(self.lease))
            .with(age_max.map(|age| age.to_string()).unwrap_or_default())
            .with(ask.earliness.to_string())
            .with(i64::from(ask.must_load));
        let answer = self.call(read).await?.into_array();
        seen(sent, &answer).ok_or_else(unexpected)
    }

    /// Writes a value that its writer has committed, unless another node is loading it or a newer one is known.
    pub(crate) async fn put(&self, put: Fill<'_>) -> Result<Filled, Error> {
        let Fill { key, token, .. } = put;
        let ask = Ask { key, token, loaded_since: None, earliness: 0.0, must_load: true };
        if self.read(ask).await?.is_leased { self.fill(put).await } else { Ok(Filled::Unleased) }
    }

    /// Writes an entry under a lease, unless it is older than what is known in Redis.
    pub(crate) async fn fill(&self, fill: Fill<'_>) -> Result<Filled, Error> {
        let (version, bytes) = fill.found.unwrap_or((0, &[]));
        let write = self
            .scripts
            .fill
            .call(vec![fill.key.to_owned()])
            .with(fill.token)
            .with(written(version))
            .with(if fill.found.is_some() { 1 } else { 2 })
            .with(millis(fill.ttl))
            .with(micros(fill.cost))
            .with(Value::from(bytes));
        match self.call(write).await?.as_i64() {
            Some(1) => Ok(Filled::Written),
            Some(0) => Ok(Filled::Unleased),
            Some(-1) => Ok(Filled::NoRoom),
            Some(-2) => Ok(Filled::Outdated),
            _ => Err(unexpected()),
        }
    }

    /// Drops values that are older than these versions, and refuses them from now on; at most [`PIPELINE_MAX`].
    pub(crate) async fn invalidate(&self, changes: &[(String, u64)]) -> Result<(), Error> {
        debug_assert!(changes.len() <= PIPELINE_MAX, "more than one round trip");
        let commands = changes
            .iter()
            .map(|(key, version)| {
                let script = self.scripts.invalidate.call(vec![key.clone()]);
                script.with(written(*version)).with(millis(FLOOR_LIFE))
            })
            .collect();
        self.note(self.pool.pipeline(Connection::Any, commands).await).map(drop)
    }

    /// Extends a lease. Returns whether it was still there.
    pub(crate) async fn renew(&self, key: &str, token: &str) -> Result<bool, Error> {
        self.set_lease(key, token, self.lease).await
    }

    /// Gives a lease back, so that another node need not wait until it ends.
    pub(crate) async fn release(&self, key: &str, token: &str) -> Result<bool, Error> {
        self.set_lease(key, token, Duration::ZERO).await
    }

    async fn set_lease(&self, key: &str, token: &str, lease: Duration) -> Result<bool, Error> {
        let set = self.scripts.lease.call(vec![key.to_owned()]).with(token).with(millis(lease));
        Ok(self.call(set).await?.as_i64() == Some(1))
    }

    async fn call(&self, command: Command) -> Result<Value, Error> {
        // Each script has the same effect twice.
        self.note(self.pool.call(Connection::Any, Resend::Yes, command).await)
    }

    fn note<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        let mut contact = self.contact.lock();
        let now = Instant::now();
        contact.any = Some(now);
        if outcome.is_err() {
            contact.failed = Some(now);
            self.metrics.errors.increment(1);
        }
        outcome
    }
}

/// Asks Redis for a sign of life whenever nothing else has been sent for a while, until the level is dropped.
async fn keep_contact(level: Weak<RedisLevel>) {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        let Some(level) = level.upgrade() else { return };
        let is_quiet = level.contact.lock().any.is_none_or(|any| any.elapsed() >= PING_INTERVAL);
        if is_quiet && let Err(error) = level.call(Command::keyless("PING", Vec::new())).await {
            tracing::debug!(%error, "the cache gets no answer from Redis");
        }
    }
}

/// Reads the answer to a read that was sent at this time.
fn seen(sent: Instant, answer: &[Value]) -> Option<Seen> {
    let [state, leased, wait, age, left, _cost, version, bytes] = answer else { return None };
    let duration = |value: &Value| value.as_i64().map(|us| Duration::from_micros(us.max(0).unsigned_abs()));
    let state = match state.as_i64()? {
        0 => State::Nothing,
        1 => State::Found { version: version.as_str()?.parse().ok()?, bytes: bytes.as_bytes()?.to_vec() },
        2 => State::Absent,
        _ => return None,
    };
    Some(Seen {
        state,
        is_leased: leased.as_i64()? == 1,
        wait: duration(wait)?,
        loaded: sent.checked_sub(duration(age)?),
        left: duration(left)?,
    })
}

/// Writes a version so that two of them compare as texts do.
fn written(version: u64) -> String {
    format!("{version:020}")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The error for a key that holds something that no cache wrote.
fn unexpected() -> Error {
    Error::Unavailable("Redis answered something unexpected".into())
}

#[cfg(test)]
mod tests;

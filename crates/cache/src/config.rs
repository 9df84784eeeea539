use std::time::Duration;

/// The longest key, bytes.
pub(crate) const KEY_BYTES_MAX: usize = 512;

/// Settings of a [`Cache`](crate::Cache). Every value has a meaning: a lifetime of zero keeps nothing.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The name, in the keys in Redis and in the label `cache` of the metrics. Values of another layout need another name.
    pub name: &'static str,
    /// The most bytes in the process, by [`Source::weight`](crate::Source::weight).
    pub weight_max: u64,
    /// The longest time that the process serves a value without asking further. With more than 5 s, values may be older than 5 s while
    /// Redis is away or after an invalidation was lost.
    pub process_ttl: Duration,
    /// The longest time that Redis keeps a value.
    pub redis_ttl: Duration,
    /// Longest time for which a missing value is cached.
    pub absent_ttl: Duration,
    /// The time that the source may take, 25 s at most: a change is remembered for 30 s, to refuse what was loaded before it.
    pub load_timeout: Duration,
    /// The longest time to wait for a value that another node loads; then this node loads it, too.
    pub cluster_wait: Duration,
    /// The most keys that are looked up at the same time. Beyond it, a miss fails.
    pub flights_max: usize,
    /// The largest value in Redis, bytes. Larger ones are kept in the process only.
    pub redis_bytes_max: usize,
    /// How eagerly entries are loaded before they expire: 1 as in the paper, 0 not at all.
    pub early: f64,
    /// A mechanism that does not work, to show that a test notices.
    #[doc(hidden)]
    pub off: Option<Mechanism>,
}

/// A mechanism that keeps a promise.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Changes are told to nobody.
    Invalidation,
    /// Any value overwrites any other in the process.
    Versions,
    /// Nodes load without regard for one another.
    Leases,
    /// Gaps are ignored.
    Gaps,
    /// Entries that Redis kept through an outage are used.
    Distrust,
}

impl CacheConfig {
    /// Returns the default settings for a cache of this name.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            weight_max: 32 << 20,
            process_ttl: Duration::from_secs(5),
            redis_ttl: Duration::from_secs(300),
            absent_ttl: Duration::from_secs(2),
            load_timeout: Duration::from_secs(5),
            cluster_wait: Duration::from_secs(5),
            flights_max: 10_000,
            redis_bytes_max: 1 << 20,
            early: 1.0,
            off: None,
        }
    }

    /// Returns whether a mechanism works.
    pub(crate) fn has(&self, mechanism: Mechanism) -> bool {
        self.off != Some(mechanism)
    }
}

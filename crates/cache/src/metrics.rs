//! The caches' metrics, with their handles registered once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The metrics of one cache.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) process: LevelMetrics,
    pub(crate) redis: LevelMetrics,
    /// Entries that were loaded before they expired.
    pub(crate) early: Counter,
    /// Gaps that were heard of.
    pub(crate) gaps: Counter,
    /// Entries in Redis that could not be read.
    pub(crate) malformed: Counter,
    /// Bytes in the process.
    pub(crate) bytes: Gauge,
    /// Changes that wait for Redis.
    pub(crate) pending: Gauge,
    load_seconds: Histogram,
    loads: [Counter; 4],
}

/// What one level answered.
#[derive(Debug)]
pub(crate) struct LevelMetrics {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    /// Values that were refused because they were older than what was known.
    pub(crate) outdated: Counter,
}

/// How a load ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoadOutcome {
    Found,
    Absent,
    Failed,
    TimedOut,
}

impl Metrics {
    pub(crate) fn register(cache: &'static str) -> Self {
        Self {
            process: LevelMetrics::register(cache, "process"),
            redis: LevelMetrics::register(cache, "redis"),
            early: counter!("starling_cache_early_refreshes_total", "cache" => cache),
            gaps: counter!("starling_cache_gaps_total", "cache" => cache),
            malformed: counter!("starling_cache_malformed_total", "cache" => cache),
            bytes: gauge!("starling_cache_bytes", "cache" => cache),
            pending: gauge!("starling_cache_pending_invalidations", "cache" => cache),
            load_seconds: histogram!("starling_cache_load_seconds", "cache" => cache),
            loads: ["found", "absent", "failed", "timed_out"].map(
                |outcome| counter!("starling_cache_loads_total", "cache" => cache, "outcome" => outcome),
            ),
        }
    }

    pub(crate) fn loaded(&self, outcome: LoadOutcome, took: Duration) {
        self.loads[outcome as usize].increment(1);
        self.load_seconds.record(took);
    }
}

impl LevelMetrics {
    fn register(cache: &'static str, level: &'static str) -> Self {
        Self {
            hits: counter!("starling_cache_hits_total", "cache" => cache, "level" => level),
            misses: counter!("starling_cache_misses_total", "cache" => cache, "level" => level),
            outdated: counter!("starling_cache_outdated_total", "cache" => cache, "level" => level),
        }
    }
}

/// The metrics of the way to Redis.
#[derive(Debug)]
pub(crate) struct RedisMetrics {
    pub(crate) errors: Counter,
    pub(crate) script_loads: Counter,
    pub(crate) refused: Counter,
    pub(crate) reconnects: Counter,
}

impl RedisMetrics {
    pub(crate) fn register() -> Self {
        Self {
            errors: counter!("starling_cache_redis_errors_total"),
            script_loads: counter!("starling_cache_redis_script_loads_total"),
            refused: counter!("starling_cache_redis_refused_total"),
            reconnects: counter!("starling_cache_redis_reconnects_total"),
        }
    }
}

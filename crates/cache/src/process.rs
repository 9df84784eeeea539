//! The first level: decoded values in the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::config::{CacheConfig, Mechanism};
use crate::entry::Entry;

/// How long a node remembers that a key has changed. A load that began before must have ended by then.
pub(crate) const FLOOR_LIFE: Duration = Duration::from_secs(30);
/// The most changed keys that are remembered. If more change within 30 s, a load that was under way may bring back an older value, which
/// then lives as long as one after a lost invalidation.
const FLOORS_MAX: u64 = 100_000;
/// What an entry takes besides key and value: about what moka keeps for it.
const ENTRY_BYTES: u32 = 200;

/// Values and what is known to have changed.
pub(crate) struct Process<V> {
    entries: Cache<String, Arc<Entry<V>>>,
    floors: Cache<String, Floor>,
    opened: Instant,
    /// The time of the last gap in microseconds since `opened`; 0 if there was none.
    gap_us: AtomicU64,
    checks_versions: bool,
}

/// A change of a key.
#[derive(Clone, Copy, Debug)]
struct Floor {
    /// The lowest version that is not outdated.
    version: u64,
    /// Time at which the change was heard of.
    at: Instant,
}

/// A value is older than what is known already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outdated;

impl<V: Send + Sync + 'static> Process<V> {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        let weigh = |key: &String, entry: &Arc<Entry<V>>| {
            entry.weight.saturating_add(key.len() as u32).saturating_add(ENTRY_BYTES)
        };
        Self {
            entries: Cache::builder()
                .max_capacity(config.weight_max)
                .weigher(weigh)
                .time_to_live(config.process_ttl.max(config.absent_ttl))
                .build(),
            floors: Cache::builder()
                .max_capacity(FLOORS_MAX)
                // A frequency filter would refuse keys that are changed for the first time.
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(FLOOR_LIFE)
                .build(),
            opened: Instant::now(),
            gap_us: AtomicU64::new(0),
            checks_versions: config.has(Mechanism::Versions),
        }
    }

    /// Returns what is known and has not expired.
    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<Arc<Entry<V>>> {
        self.entries.get(key).filter(|entry| entry.expires > now && self.is_after_gap(entry))
    }

    /// Returns whether nothing that this node heard of makes an entry outdated.
    pub(crate) fn allows(&self, key: &str, entry: &Entry<V>) -> bool {
        let floor = self.floors.get(key).filter(|_| self.checks_versions);
        self.is_after_gap(entry) && floor.is_none_or(|floor| floor.allows(entry))
    }

    /// Keeps an entry, unless a newer one is there or it is outdated.
    pub(crate) fn insert(&self, key: &str, entry: &Arc<Entry<V>>) -> Result<(), Outdated> {
        if !self.allows(key, entry) {
            return Err(Outdated);
        }
        let mut is_older = false;
        self.entries.entry_by_ref(key).and_compute_with(|present| {
            is_older =
                self.checks_versions && present.is_some_and(|present| present.value().is_newer_than(entry));
            if is_older { Op::Nop } else { Op::Put(Arc::clone(entry)) }
        });
        // Once more, so that a change that is heard of meanwhile is either seen here or finds the entry.
        if self.allows(key, entry) {
            return if is_older { Err(Outdated) } else { Ok(()) };
        }
        self.remove_if(key, |present| !self.allows(key, present));
        Err(Outdated)
    }

    /// Remembers a change, and drops what is older.
    pub(crate) fn invalidate(&self, key: &str, version: u64) {
        let at = Instant::now();
        self.floors.entry_by_ref(key).and_compute_with(|present| {
            let higher = present.map_or(version, |present| present.value().version.max(version));
            Op::Put(Floor { version: higher, at })
        });
        let floor = Floor { version, at };
        self.remove_if(key, |present| !floor.allows(present));
    }

    /// Drops everything, also what is being loaded.
    pub(crate) fn gap(&self) {
        // Rounded up, so that nothing from before the gap is later than it.
        let since = self.opened.elapsed().as_micros() as u64 + 1;
        self.gap_us.fetch_max(since, Ordering::SeqCst);
        self.entries.invalidate_all();
    }

    /// Returns the time of the last gap.
    pub(crate) fn last_gap(&self) -> Option<Instant> {
        match self.gap_us.load(Ordering::SeqCst) {
            0 => None,
            since => Some(self.opened + Duration::from_micros(since)),
        }
    }

    /// Returns the time since which entries can be.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns about how many bytes are kept.
    pub(crate) fn weight(&self) -> u64 {
        self.entries.weighted_size()
    }

    fn is_after_gap(&self, entry: &Entry<V>) -> bool {
        self.last_gap().is_none_or(|gap| entry.as_of > gap)
    }

    fn remove_if(&self, key: &str, outdated: impl FnOnce(&Entry<V>) -> bool) {
        self.entries.entry_by_ref(key).and_compute_with(|present| match present {
            Some(present) if outdated(present.value()) => Op::Remove,
            _ => Op::Nop,
        });
    }

    #[cfg(test)]
    fn settle(&self) {
        self.entries.run_pending_tasks();
    }
}

impl Floor {
    fn allows<V>(&self, entry: &Entry<V>) -> bool {
        match &entry.known {
            Some(found) => found.version >= self.version,
            // That there is nothing has no version, but it was so after the change.
            None => entry.as_of > self.at,
        }
    }
}

impl<V> fmt::Debug for Process<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("entries", &self.entries.entry_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

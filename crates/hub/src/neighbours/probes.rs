//! Probes that a node publishes to itself each second, to learn whether it hears what is published.
//!
//! A subscriber's connection may look alive and carry nothing. A node that misses more than three probes is deaf.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most probes that may be outstanding before the node counts as deaf.
const MISSED_MAX: u64 = 3;

/// The probes of this node.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The number of the last probe that was sent.
    sent: AtomicU64,
    /// The number of the last probe that came back.
    heard: AtomicU64,
    heard_at: Mutex<Option<Instant>>,
}

impl Probes {
    /// Returns the number of the next probe.
    pub fn next(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that a probe came back.
    pub fn hear(&self, nonce: u64) {
        self.heard.fetch_max(nonce, Ordering::Relaxed);
        *self.heard_at.lock() = Some(Instant::now());
    }

    /// Returns the time at which a probe last came back.
    pub fn heard_at(&self) -> Option<Instant> {
        *self.heard_at.lock()
    }

    /// Whether too many probes are outstanding.
    pub fn are_missed(&self) -> bool {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.heard.load(Ordering::Relaxed)) > MISSED_MAX
    }

    /// Restarts the count, after the link was rebuilt.
    pub fn reset(&self) {
        self.heard.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_missed_more_than_three_probes_is_deaf_until_it_hears_one() {
        let probes = Probes::default();
        for _ in 0..3 {
            probes.next();
        }
        assert!(!probes.are_missed());
        let last = probes.next();
        assert!(probes.are_missed());
        probes.hear(last);
        assert!(!probes.are_missed());
    }
}

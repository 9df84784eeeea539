//! Whether this node hears what is published.
//!
//! A subscriber's connection may look alive and carry nothing. So every node publishes a probe to itself each second; a node that
//! has not heard its last three is deaf, says so, and builds the link anew.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many probes may be outstanding before the link counts as dead.
const MISSED_MAX: u64 = 3;

/// Whether this node hears what is published.
#[derive(Debug, Default)]
pub struct Link {
    sent: AtomicU64,
    heard: AtomicU64,
    heard_at: Mutex<Option<Instant>>,
}

impl Link {
    /// The number of the next probe.
    pub fn next(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }
    /// A probe came back.
    pub fn heard(&self, nonce: u64) {
        self.heard.fetch_max(nonce, Ordering::Relaxed);
        *self.heard_at.lock() = Some(Instant::now());
    }
    /// When a probe last came back.
    pub fn heard_at(&self) -> Option<Instant> {
        *self.heard_at.lock()
    }
    /// Whether too many probes are outstanding.
    pub fn is_deaf(&self) -> bool {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.heard.load(Ordering::Relaxed)) > MISSED_MAX
    }
    /// Begins to count anew, after the link was rebuilt.
    pub fn reset(&self) {
        self.heard.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_missed_probes_make_a_link_deaf_and_one_heard_makes_it_well() {
        let link = Link::default();
        for _ in 0..3 {
            link.next();
        }
        assert!(!link.is_deaf());
        let last = link.next();
        assert!(link.is_deaf());
        link.heard(last);
        assert!(!link.is_deaf());
    }
}

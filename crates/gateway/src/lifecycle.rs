//! Where a node is in its lifecycle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Where a node is in its lifecycle: it serves, then it drains, and from some moment of the drain on it takes no new connections.
pub(crate) struct Lifecycle {
    started: Instant,
    is_draining: AtomicBool,
    is_closed: AtomicBool,
}

impl Lifecycle {
    /// Creates the lifecycle of a node that starts now.
    pub fn new() -> Lifecycle {
        Lifecycle {
            started: Instant::now(),
            is_draining: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The time since the node's start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records that the drain has begun.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node drains.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Refuses new WebSockets from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether no new WebSockets are taken.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }
}

//! The gateway's numbers for the node's record.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::latency::LatencyWindow;

/// The gateway's numbers for the node's record. The gateway sets them, unless a field says otherwise.
#[derive(Debug, Default)]
pub struct NodeGauges {
    /// Open connections.
    pub connections: AtomicU64,
    /// Whether the node drains.
    pub draining: AtomicBool,
    /// Events put into outboxes since the start.
    pub deliveries: AtomicU64,
    /// Times from a message's commit to the outboxes.
    pub delivery: LatencyWindow,
    /// The 50th percentile of `delivery` over the last seconds, microseconds. Set by the hub.
    pub delivery_p50_us: AtomicU64,
    /// The 99th percentile of `delivery` over the last seconds, microseconds. Set by the hub.
    pub delivery_p99_us: AtomicU64,
}

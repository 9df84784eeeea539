//! What the gateway says of itself, for the node's record.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::latency::LatencyWindow;

/// What the gateway says of itself, for the node's record. All are set by the gateway, but where it says otherwise.
#[derive(Debug, Default)]
pub struct NodeGauges {
    /// Open sockets.
    pub connections: AtomicU64,
    /// Whether the node drains.
    pub draining: AtomicBool,
    /// Events put into sockets' queues since the start.
    pub deliveries: AtomicU64,
    /// How long messages took from their commit to the sockets' queues.
    pub delivery: LatencyWindow,
    /// Percentiles of the last seconds, from `delivery`, microseconds (set by the hub).
    pub delivery_p50_us: AtomicU64,
    /// See `delivery_p50_us`.
    pub delivery_p99_us: AtomicU64,
}

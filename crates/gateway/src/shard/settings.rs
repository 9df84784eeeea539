//! What a shard is told when it starts.

use std::sync::Arc;

use starling_hub::{Hub, NodeGauges};
use starling_wire::websocket::deflate::DeflateConfig;
use tokio::time::Instant;

use super::move_requests::MoveRequests;
use super::pace::PaceLimits;
use crate::admission::Admission;

/// What answers the messages of a connection.
#[derive(Clone)]
pub(crate) enum Service {
    /// Starling.
    Hub(Arc<Hub>),
    /// Sends every message back, to hold the codec against conformance suites.
    Echo,
}

/// The settings of a shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardSettings {
    /// The time between two pings, seconds. A client that is silent for twice as long is gone.
    pub heartbeat_s: u32,
    /// The time that a client has for `connect`, seconds.
    pub connect_timeout_s: u32,
    /// The age at which a client is asked to move, seconds; 0: never.
    pub max_age_s: u32,
    /// Bytes in an outbox beyond which what can be had again is dropped.
    pub outbox_bytes_soft: usize,
    /// Bytes in an outbox beyond which the connection is closed.
    pub outbox_bytes_hard: usize,
    /// Limit on a client's message, inflated, bytes.
    pub message_bytes_max: u32,
    /// The permessage-deflate that is negotiated; `None`: none.
    pub deflate: Option<DeflateConfig>,
    /// Rates of one connection.
    pub pace: PaceLimits,
    /// Limit on the sessions that begin, over all shards.
    pub admission: Arc<Admission>,
    /// Sessions of all shards that were asked lately to move to other nodes.
    pub move_requests: Arc<MoveRequests>,
}

/// What all connections of a shard may read, and nobody changes.
pub(crate) struct Env {
    pub index: u16,
    pub service: Service,
    pub settings: ShardSettings,
    started: Instant,
}

impl Env {
    /// The environment of a shard that starts now.
    pub fn new(index: u16, service: Service, settings: ShardSettings) -> Env {
        Env { index, service, settings, started: Instant::now() }
    }

    /// Microseconds since the shard's start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The hub's counters for the node's record.
    pub fn gauges(&self) -> Option<&NodeGauges> {
        match &self.service {
            Service::Hub(hub) => Some(hub.gauges()),
            Service::Echo => None,
        }
    }
}

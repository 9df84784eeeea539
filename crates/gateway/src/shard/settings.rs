//! What a shard is told when it starts.

use std::sync::Arc;
use std::time::Duration;

use starling_hub::{Hub, NodeGauges};
use starling_rate::Rate;
use starling_wire::websocket::deflate::DeflateConfig;
use tokio::time::Instant;

use super::move_requests::MoveRequests;
use super::pace::PaceLimits;
use crate::admission::Admission;
use crate::config::GatewayConfig;

/// What handles the messages of a connection.
#[derive(Clone)]
pub(crate) enum Service {
    /// Handles them as commands of Starling's protocol.
    Hub(Arc<Hub>),
    /// Sends every message back, to hold the codec against conformance suites.
    Echo,
}

/// The hard limit of an outbox, in soft limits. An answer of the largest size fits into it.
const HARD_PER_SOFT: usize = 16;

/// The settings of a shard, and what all shards share.
#[derive(Clone, Debug)]
pub(crate) struct ShardSettings {
    config: Arc<GatewayConfig>,
    /// The permessage-deflate that is negotiated; `None`: none.
    pub deflate: Option<DeflateConfig>,
    /// Rates of one connection.
    pub pace: PaceLimits,
    /// Limit on the sessions that begin, over all shards.
    pub admission: Arc<Admission>,
    /// Sessions of all shards that were asked lately to move to other nodes.
    pub move_requests: Arc<MoveRequests>,
}

impl ShardSettings {
    /// Takes the settings of the gateway.
    pub fn new(config: Arc<GatewayConfig>, service: &Service, admission: Arc<Admission>) -> ShardSettings {
        ShardSettings {
            deflate: config.deflate.then(|| deflate(service)),
            pace: PaceLimits {
                commands: Rate::per_second(config.commands_per_second),
                bytes: Rate::per_second(config.bytes_per_second),
            },
            config,
            admission,
            move_requests: Arc::default(),
        }
    }

    /// The time between two pings, seconds. A client that is silent for twice as long is gone.
    pub fn heartbeat_s(&self) -> u32 {
        seconds(self.config.heartbeat).max(1)
    }

    /// The time that a client has for `connect`, seconds.
    pub fn connect_timeout_s(&self) -> u32 {
        seconds(self.config.connect_timeout).max(1)
    }

    /// The age at which a client is asked to move, seconds; 0: never.
    pub fn max_age_s(&self) -> u32 {
        seconds(self.config.connection_max_age)
    }

    /// Bytes in an outbox beyond which what can be had again is dropped.
    pub fn outbox_bytes_soft(&self) -> usize {
        self.config.queue_bytes
    }

    /// Bytes in an outbox beyond which the connection is closed.
    pub fn outbox_bytes_hard(&self) -> usize {
        self.config.queue_bytes.saturating_mul(HARD_PER_SOFT)
    }

    /// Limit on a client's message, inflated, bytes.
    pub fn message_bytes_max(&self) -> u32 {
        self.config.message_bytes_max
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The permessage-deflate that is offered. The program keeps no compression context between messages. The echo keeps it where clients
/// offer that, so that conformance suites test the whole codec.
fn deflate(service: &Service) -> DeflateConfig {
    let forgets = !matches!(service, Service::Echo);
    DeflateConfig {
        server_no_context_takeover: forgets,
        client_no_context_takeover: forgets,
        ..DeflateConfig::default()
    }
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

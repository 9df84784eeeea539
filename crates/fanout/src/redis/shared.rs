use std::sync::atomic::AtomicBool;
use std::time::Duration;

use starling_redis_link::RedisAddress;

use super::frame::Writer;
use super::names::{Channel, Channels, Names};
use crate::metrics::Metrics;

/// What all parts of a fan-out over Redis share, and nobody changes.
pub(super) struct Shared {
    pub(super) address: RedisAddress,
    pub(super) names: Names,
    pub(super) channels: Channels,
    /// This node's own channel.
    pub(super) node: Channel,
    /// This life of this node: its name, and a random part.
    pub(super) origin: String,
    pub(super) writer: Writer,
    pub(super) metrics: Metrics,
    pub(super) command_timeout: Duration,
    /// Whether Redis has no memory for topics, as the log was told.
    pub(super) full: AtomicBool,
}

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use starling_redis_link::RedisAddress;

use super::frame::Writer;
use super::names::{Channel, Channels, Names};
use crate::metrics::Metrics;

/// The settings and metrics that all parts of a fan-out over Redis share.
pub(super) struct Shared {
    pub(super) address: RedisAddress,
    pub(super) names: Names,
    pub(super) channels: Channels,
    /// This node's own channel.
    pub(super) node: Channel,
    /// The name of this run of the node: the node's name and a random part.
    pub(super) origin: String,
    pub(super) writer: Writer,
    pub(super) metrics: Metrics,
    pub(super) command_timeout: Duration,
    /// Whether the log last said that Redis has no memory for topics.
    pub(super) full: AtomicBool,
}

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use starling_redis_link::RedisAddress;

use super::frame::Writer;
use super::names::{Channel, Channels, Names, TopicsKeys};
use crate::TopicSettings;
use crate::metrics::Metrics;

/// The settings and metrics that all parts of a fan-out over Redis share.
pub(super) struct Shared {
    pub(super) address: RedisAddress,
    pub(super) names: Names,
    pub(super) channels: Channels,
    /// How much is kept of each topic.
    pub(super) topics: TopicSettings,
    /// The keys of topics of each group of partitions.
    pub(super) topics_keys: Vec<TopicsKeys>,
    /// This node's own channel.
    pub(super) node: Channel,
    /// On a cluster, this node's own channel in the slot of each partition.
    pub(super) node_in: Vec<Channel>,
    /// The name of this run of the node: the node's name and a random part.
    pub(super) origin: String,
    pub(super) writer: Writer,
    pub(super) metrics: Metrics,
    pub(super) command_timeout: Duration,
    /// Whether the log last said that Redis has no memory for topics.
    pub(super) full: AtomicBool,
}

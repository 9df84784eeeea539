use std::time::Duration;

use starling_redis_link::RedisAddress;

use super::names::PREFIX;
use crate::TopicSettings;

/// Settings of a [`RedisFanout`](super::RedisFanout).
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where Redis is.
    pub address: RedisAddress,
    /// This node's name, unique among all nodes.
    pub node: String,
    /// How much is kept of each topic.
    pub topics: TopicSettings,
    /// The prefix of all channels and keys.
    pub prefix: String,
    /// The time that a command may take. Opening a link may take twice as long.
    pub command_timeout: Duration,
}

impl RedisConfig {
    /// Returns the default settings: 100 publications of a topic are kept for a minute, and a command may take two seconds.
    pub fn new(address: RedisAddress, node: impl Into<String>) -> Self {
        Self {
            address,
            node: node.into(),
            topics: TopicSettings { history: 100, history_seconds: 60 },
            prefix: PREFIX.into(),
            command_timeout: Duration::from_secs(2),
        }
    }
}

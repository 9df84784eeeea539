use std::time::Duration;

use starling_redis_link::RedisAddress;

use super::names::PREFIX;
use crate::TopicSettings;

/// What a [`RedisFanout`](super::RedisFanout) needs to know.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where Redis is.
    pub address: RedisAddress,
    /// This node's name, unique among all nodes.
    pub node: String,
    /// What is kept of topics.
    pub topics: TopicSettings,
    /// What all channels and keys begin with.
    pub prefix: String,
    /// How long a command may take. Opening a link may take twice as long.
    pub command_timeout: Duration,
}

impl RedisConfig {
    /// The usual settings: 100 publications of a topic kept for a minute, two seconds for a command.
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

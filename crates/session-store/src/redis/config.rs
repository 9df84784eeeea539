//! The settings of the store.

use std::time::Duration;

use starling_redis_link::RedisAddress;

use crate::LEASE_MS;

/// Settings of a [`RedisStore`](super::RedisStore).
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where Redis is.
    pub address: RedisAddress,
    /// Number of connections to each server. Each is a task that writes and reads.
    pub connections: usize,
    /// The time that a call may take.
    pub command_timeout: Duration,
    /// How long a node's lease runs after its last beat.
    pub lease: Duration,
    /// The prefix of all keys.
    pub prefix: String,
}

impl RedisConfig {
    /// Returns the default settings for a Redis at this address.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            connections: 3,
            command_timeout: Duration::from_secs(2),
            lease: Duration::from_millis(LEASE_MS),
            prefix: "starling:v1:".into(),
        }
    }
}

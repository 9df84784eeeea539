//! Redis, or what replaces it on a single node.

use std::sync::Arc;

use anyhow::anyhow;
use starling_fanout::memory::MemoryFanout;
use starling_fanout::redis::{RedisConfig as FanoutConfig, RedisFanout};
use starling_fanout::{Fanout, TopicSettings};
use starling_redis_link::RedisAddress;
use starling_session_store::SessionStore;
use starling_session_store::memory::MemoryStore;
use starling_session_store::redis::{RedisConfig, RedisStore};
use starling_settings::BadConfig;

use crate::config::Config;
use crate::failure::Failure;

/// Where Redis is, and how it is used.
pub struct Redis {
    /// `None`: a single node works without.
    address: Option<RedisAddress>,
    /// What names begin with, with the version of their contents.
    prefix: String,
    topics: TopicSettings,
}

/// What nodes share, beside the database.
pub struct Shared {
    /// Who is connected where.
    pub sessions: Arc<dyn SessionStore>,
    /// Publications between nodes.
    pub fanout: Arc<dyn Fanout>,
}

impl Redis {
    /// Reads the address, and connects to nothing.
    pub fn read(config: &Config) -> Result<Redis, BadConfig> {
        let address = config.redis.url.as_ref().map(|url| url.expose().parse::<RedisAddress>());
        let address = address.transpose().map_err(|error| BadConfig(error.to_string()))?;
        let prefix = format!("{}:v1", config.redis.prefix);
        Ok(Redis { address, prefix, topics: TopicSettings::from(&config.topics) })
    }

    /// Opens the session store and the fan-out of the node with this lease. Redis may be away at the start: the node then serves from
    /// the log until Redis is back. A Redis of the wrong version ends the start.
    pub async fn open(&self, lease: &str) -> Result<Shared, Failure> {
        let Some(address) = &self.address else {
            let fanout = MemoryFanout::alone(lease, self.topics);
            return Ok(Shared { sessions: Arc::new(MemoryStore::new()), fanout });
        };
        let config = RedisConfig { prefix: format!("{}:", self.prefix), ..RedisConfig::new(address.clone()) };
        let sessions = RedisStore::connect(config).await.map_err(|error| BadConfig(error.to_string()))?;
        let mut config = FanoutConfig::new(address.clone(), lease);
        config.topics = self.topics;
        config.prefix.clone_from(&self.prefix);
        let fanout = RedisFanout::connect(config).map_err(|error| BadConfig(error.to_string()))?;
        check(&sessions, &fanout).await?;
        Ok(Shared { sessions: Arc::new(sessions), fanout: Arc::new(fanout) })
    }
}

/// Refuses a Redis that can't be used. One that does not answer may be used later.
async fn check(sessions: &RedisStore, fanout: &RedisFanout) -> Result<(), Failure> {
    match sessions.check().await {
        Ok(()) => {}
        Err(starling_session_store::Error::Unavailable(error)) => {
            tracing::warn!(%error, "redis_url: Redis does not answer; the node serves from the database until it does");
            return Ok(());
        }
        Err(error) => return Err(Failure::about("redis_url", error)),
    }
    match fanout.check().await {
        Ok(()) => Ok(()),
        Err(error @ (starling_fanout::Error::Refused(_) | starling_fanout::Error::Unsupported(_))) => {
            Err(anyhow!("redis_url: {error}").into())
        }
        Err(error) => {
            tracing::debug!(%error, "the link to Redis cannot be tested yet");
            Ok(())
        }
    }
}

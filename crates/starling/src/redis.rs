//! Redis, or what replaces it on a single node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use starling_fanout::memory::MemoryFanout;
use starling_fanout::redis::{RedisConfig as FanoutConfig, RedisFanout};
use starling_fanout::{Fanout, TopicSettings};
use starling_redis_link::{Error, Pool, PoolConfig, PoolMetrics, RedisAddress, client};
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
        let Some((sessions, fanout)) = self.connect(lease).await? else {
            let fanout = MemoryFanout::alone(lease, self.topics);
            return Ok(Shared { sessions: Arc::new(MemoryStore::new()), fanout });
        };
        check(&sessions, &fanout).await?;
        Ok(Shared { sessions: Arc::new(sessions), fanout: Arc::new(fanout) })
    }

    /// Sets up the session store and the fan-out of the node with this lease, but does not wait for Redis; `None`: a single node works
    /// without.
    pub async fn connect(&self, lease: &str) -> Result<Option<(RedisStore, RedisFanout)>, BadConfig> {
        let Some(address) = &self.address else { return Ok(None) };
        let config = RedisConfig { prefix: format!("{}:", self.prefix), ..RedisConfig::new(address.clone()) };
        let sessions = RedisStore::connect(config).await.map_err(|error| BadConfig(error.to_string()))?;
        let mut config = FanoutConfig::new(address.clone(), lease);
        config.topics = self.topics;
        config.prefix.clone_from(&self.prefix);
        let fanout = RedisFanout::connect(config).map_err(|error| BadConfig(error.to_string()))?;
        Ok(Some((sessions, fanout)))
    }

    /// Connects once, to learn whether and why not; `None`: a single node works without.
    pub async fn try_connect(&self, limit: Duration) -> Option<Result<(), Error>> {
        let address = self.address.as_ref()?;
        Some(client::try_connect(address, limit).await)
    }

    /// A connection for questions about the server; `None`: a single node works without.
    pub fn pool(&self, command_timeout: Duration) -> Option<Result<Pool, Error>> {
        let address = self.address.clone()?;
        let probe_key = format!("{}:doctor", self.prefix);
        let config = PoolConfig { address, connections: 1, command_timeout, probe_key, scripts: Vec::new() };
        Some(Pool::open(config, PoolMetrics::unrecorded()))
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

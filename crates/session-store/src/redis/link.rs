//! What all parts of the store share: the connections, the scripts, the names of keys, and the metrics.

use std::time::Duration;

use starling_redis_link::{Connection, Pool, PoolConfig, PoolMetrics};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::RedisConfig;
use super::keys::Keys;
use super::script::Scripts;
use crate::Error;
use crate::metrics::Metrics;

/// The connection of changes of presence.
pub(super) const PRESENCE: Connection = Connection::Fixed(0);
/// The connection of changes of sessions.
pub(super) const SESSIONS: Connection = Connection::Fixed(1);

/// The most attaches under way at a time: enough to keep the connections busy.
const ATTACHES_MAX: usize = 512;
/// For how many times the time of a call an attach waits for its turn at most.
const TURN_TIMEOUTS: u32 = 4;

/// The way to Redis.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) pool: Pool,
    pub(super) scripts: Scripts,
    pub(super) keys: Keys,
    pub(super) metrics: Metrics,
    /// A permit for each further attach that may be under way.
    attaches: Semaphore,
    attach_wait_max: Duration,
}

impl Link {
    /// Starts to connect, and goes on trying.
    pub(super) fn open(config: &RedisConfig) -> Result<Self, Error> {
        let (scripts, keys, metrics) = (Scripts::new(), Keys::new(&config.prefix), Metrics::register());
        let pool = PoolConfig {
            address: config.address.clone(),
            connections: config.connections,
            command_timeout: config.command_timeout,
            probe_key: keys.room(),
            scripts: scripts.all(),
        };
        let counters = PoolMetrics {
            script_loads: metrics.script_loads.clone(),
            refused: metrics.refused.clone(),
            reconnects: metrics.reconnects.clone(),
        };
        Ok(Self {
            pool: Pool::open(pool, counters)?,
            scripts,
            keys,
            metrics,
            attaches: Semaphore::new(ATTACHES_MAX),
            attach_wait_max: config.command_timeout * TURN_TIMEOUTS,
        })
    }

    /// Waits for a turn among many attaches that come at once, such as those of the clients of a node that died: in the queue of a
    /// connection their time would run out.
    pub(super) async fn attach_turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        match tokio::time::timeout(self.attach_wait_max, self.attaches.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Error::Unavailable("too many sessions are being attached".into())),
        }
    }
}

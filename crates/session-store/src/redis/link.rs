//! What all parts of the store share: the connections, the scripts, the names of keys, and the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use starling_redis_link::{Command, Connection, Pool, PoolConfig, PoolMetrics, Resend};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::RedisConfig;
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

/// How often a node that has nothing to write finds out whether Redis is full.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);

/// The way to Redis.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) pool: Pool,
    pub(super) scripts: Scripts,
    pub(super) keys: Keys,
    pub(super) metrics: Metrics,
    /// A permit for each further attach that may be under way.
    attaches: Semaphore,
    pub(super) attach_wait_max: Duration,
    /// Time of the last look for room.
    looked_for_room: Mutex<Option<Instant>>,
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
            looked_for_room: Mutex::default(),
        })
    }

    /// Writes a key that a full Redis does not accept. The pool notes whether Redis is full.
    pub(super) async fn look_for_room(&self) -> Result<(), Error> {
        let set = Command::new("SET", self.keys.room()).with("1").with("PX").with("60000");
        self.pool.call(Connection::Any, Resend::Yes, set).await?;
        Ok(())
    }

    /// Looks for room in the background if that was not done lately. A full Redis accepts beats and answers reads, so these do not show that
    /// it is full.
    pub(super) fn look_for_room_in_time(self: &Arc<Self>) {
        let mut looked = self.looked_for_room.lock();
        if looked.is_some_and(|looked| looked.elapsed() < ROOM_INTERVAL) {
            return;
        }
        *looked = Some(Instant::now());
        let link = self.clone();
        tokio::spawn(async move {
            if let Err(error) = link.look_for_room().await {
                tracing::debug!(%error, "Redis did not accept a write");
            }
        });
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

//! The session store in Redis 7 or later: alone, behind Sentinel, or a cluster.
//!
//! Leases and limits run by the server's clock; the times of sessions are those that the callers tell. The nodes' clocks
//! and the server's have to agree within a second or so, as any time service sees to.
//!
//! Every call ends within [`RedisConfig::command_timeout`], those that take a list within that time for each 500 entries. An
//! attach may wait four times as long for its turn when thousands come at once. While Redis is away or known to be
//! silent calls fail at once; whether it is back is looked at four times a second.

mod address;
mod command;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod keys;
mod link;
mod list;
mod presence;
mod registry;
mod reply;
mod script;
mod server_clock;
mod sessions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fred::types::Value;
use starling_rate::Rate;

use crate::clock::system_now_us;
use crate::{
    Attach, Attached, Beat, ConversationKey, Dropped, Ended, Error, Held, Hold, LEASE_MS, NodeRecord,
    PresenceChange, PresenceEntry, Restored, SessionChange, SessionList, SessionState, SessionStore, Verdict,
};
use command::Command;
use keys::Keys;
use link::{Again, Lane, Link};
use presence::Presence;
use registry::Registry;
use script::Scripts;
use sessions::Sessions;

/// The oldest Redis that will do.
const VERSION_MIN: u32 = 7;

/// For how long what a node said of a tenant's connections is remembered, milliseconds.
const CONNECTIONS_MS: i64 = 60_000;

/// Where Redis is, and how it is to be used.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://`, `redis-cluster://` or `redis-sentinel://`, each with `rediss` for TLS.
    pub url: String,
    /// Connections to each server; each is a task that writes and reads.
    pub connections: usize,
    /// How long a call may take.
    pub command_timeout: Duration,
    /// How long a node lives after its last beat.
    pub lease: Duration,
    /// What all keys begin with.
    pub prefix: String,
}

impl RedisConfig {
    /// The usual, for that address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connections: 3,
            command_timeout: Duration::from_secs(2),
            lease: Duration::from_millis(LEASE_MS),
            prefix: "starling:v1:".into(),
        }
    }

    /// Reads the address, and connects to nothing.
    ///
    /// # Errors
    /// [`Error::Address`] when it can't be used.
    pub fn check(&self) -> Result<(), Error> {
        address::parse(&self.url).map(drop)
    }
}

impl std::fmt::Debug for RedisConfig {
    /// Leaves the address out, as a password may stand in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConfig")
            .field("connections", &self.connections)
            .field("command_timeout", &self.command_timeout)
            .field("lease", &self.lease)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Who is connected where, in Redis.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    registry: Arc<Registry>,
    sessions: Sessions,
    presence: Presence,
    scripts: Arc<Scripts>,
    keys: Keys,
}

impl RedisStore {
    /// Begins to connect, and goes on trying by itself; Redis need not be there yet. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] when the address can't be read.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        let scripts = Arc::new(Scripts::new());
        let keys = Keys::new(&config.prefix);
        let link = Arc::new(Link::open(&config, scripts.clone())?);
        let registry = Registry::new(link.clone(), scripts.clone(), keys.clone(), config.lease);
        let registry = Arc::new(registry);
        let sessions = Sessions::new(link.clone(), registry.clone(), scripts.clone(), keys.clone());
        let presence = Presence::new(link.clone(), registry.clone(), scripts.clone(), keys.clone());
        Ok(Self { link, registry, sessions, presence, scripts, keys })
    }

    /// Looks whether Redis can be reached, takes this node, and is recent enough.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it can't be reached, [`Error::Refused`] when it wants another user or password or this one
    /// lacks rights, [`Error::Unsupported`] when it is too old.
    pub async fn check(&self) -> Result<(), Error> {
        match self.version().await? {
            Some(version) => match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
                Some(major) if major >= VERSION_MIN => {}
                _ => {
                    return Err(Error::Unsupported(format!(
                        "redis_url: Redis {VERSION_MIN} or later is needed, and this one is {}",
                        version.trim()
                    )));
                }
            },
            None => tracing::warn!(
                "Redis does not tell its version: this user has no right to HELLO or INFO. {VERSION_MIN} or later is needed"
            ),
        }
        // Whether the user may run scripts, and what they do.
        self.registry.try_out().await
    }

    /// The version of Redis; `None` where it may not be asked.
    async fn version(&self) -> Result<Option<String>, Error> {
        for (name, arguments) in [("HELLO", Vec::new()), ("INFO", vec![Value::from_static_str("server")])] {
            match self.link.try_command(Command::keyless(name, arguments)).await {
                Ok(answer) => {
                    let version = match answer {
                        Value::Array(fields) => fields
                            .chunks(2)
                            .find(|pair| pair[0].as_str().as_deref() == Some("version"))
                            .and_then(|pair| pair.get(1)?.as_string()),
                        Value::Map(fields) => fields.get(&"version".into()).and_then(Value::as_string),
                        text => text.as_str().and_then(|text| {
                            let mut lines = text.lines();
                            lines.find_map(|line| line.strip_prefix("redis_version:").map(str::to_owned))
                        }),
                    };
                    if version.is_some() {
                        return Ok(version);
                    }
                }
                // One of both may be denied.
                Err(Error::Refused(why)) if why.starts_with("NOPERM") => {
                    tracing::debug!(why, "Redis does not tell its version this way");
                    if name == "INFO" {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some("unknown".into()))
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.link.close().await;
    }

    async fn set_connections_of(
        &self,
        node: &str,
        tenant: &str,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        let max = max.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        let line = match max {
            -1 => Value::from_static_str("|"),
            _ => self.registry.recent().await?.line.clone(),
        };
        let set = Command::script(&self.scripts.connections, vec![self.keys.connections(tenant)])
            .with(node)
            .with(i64::try_from(count).unwrap_or(i64::MAX))
            .with(max)
            .with(CONNECTIONS_MS)
            .with(line);
        match self.link.call(Lane::Any, Again::Yes, set).await?.as_i64() {
            Some(set) => Ok(set == 1),
            None => Err(Error::Unavailable("Redis answered something unexpected".into())),
        }
    }

    async fn take_one(&self, tenant: &str, user: &str, rate: Rate) -> Result<Verdict, Error> {
        let keys = vec![self.keys.limit(tenant, user), self.keys.line(tenant, user)];
        let take = Command::script(&self.scripts.take, keys)
            .with(micros(rate.interval_us()))
            .with(micros(rate.tolerance_us()));
        match self.link.call(Lane::Any, Again::No, take).await?.as_i64() {
            Some(0) => Ok(Verdict::Allowed),
            Some(away_us) => Ok(Verdict::denied(away_us.unsigned_abs())),
            None => Err(Error::Unavailable("Redis answered something unexpected".into())),
        }
    }
}

/// Microseconds as Redis' scripts read them.
fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        self.link.meters.beat.measure(self.registry.beat(node)).await
    }

    async fn leave(&self, node: &str) -> Result<(), Error> {
        self.link.meters.leave.measure(self.registry.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.link.meters.nodes.measure(self.registry.living()).await
    }

    fn now_us(&self) -> i64 {
        self.registry.clock.at(Instant::now()).unwrap_or_else(system_now_us)
    }

    async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        let now = Instant::now();
        let began = now.checked_sub(attach.waited).unwrap_or(now);
        let attached = async {
            let _turn = self.link.turn().await?;
            self.link.within(self.sessions.attach(attach, began)).await
        };
        self.link.meters.attach.measure(attached).await
    }

    async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        let held = async {
            let _turn = self.link.turn().await?;
            self.sessions.hold(hold).await
        };
        self.link.meters.hold.measure(held).await
    }

    async fn restore(&self, node: &str, sessions: &[SessionState]) -> Result<Restored, Error> {
        self.link.meters.restore.measure(self.sessions.restore(node, sessions)).await
    }

    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        self.link.meters.detach.measure(self.sessions.detach(node, dropped, now_ms)).await
    }

    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        self.link.meters.update.measure(self.sessions.update(batch)).await
    }

    async fn end(&self, tenant: &str, session: &str) -> Result<Option<Ended>, Error> {
        self.link.meters.end.measure(self.link.within(self.sessions.end(tenant, session))).await
    }

    async fn sessions(
        &self,
        tenant: &str,
        user: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        let page = self.link.within(self.sessions.page(tenant, user, cursor, limit));
        self.link.meters.sessions.measure(page).await
    }

    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        self.link.meters.set_presence.measure(self.presence.set(node, batch)).await
    }

    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        self.link.meters.presence.measure(self.presence.of(of)).await
    }

    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error> {
        self.link.meters.keep_presence.measure(self.presence.keep(of)).await
    }

    async fn set_connections(
        &self,
        node: &str,
        tenant: &str,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        let set = self.set_connections_of(node, tenant, count, max);
        self.link.meters.connections.measure(self.link.within(set)).await
    }

    async fn take(&self, tenant: &str, user: &str, rate: Rate) -> Result<Verdict, Error> {
        self.link.meters.take.measure(self.take_one(tenant, user, rate)).await
    }

    async fn ping(&self) -> Option<Result<(), Error>> {
        // A write, because a Redis that is full still answers.
        let set = Command::new("SET", self.keys.room()).with("1").with("PX").with("60000");
        let call = async {
            self.link.call(Lane::Any, Again::Yes, set).await?;
            match self.link.is_full() {
                true => Err(Error::Unavailable("Redis is full".into())),
                false => Ok(()),
            }
        };
        Some(self.link.meters.ping.measure(call).await)
    }
}

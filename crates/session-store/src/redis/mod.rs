//! The session store in Redis 7 or later: a single server, Sentinel, or a cluster.
//!
//! Leases and limits use the server's clock. The times of sessions are those that callers pass in. The clocks of the nodes and of the
//! server must agree within a second or so, which any time service ensures.
//!
//! Every call ends within [`RedisConfig::command_timeout`]; a call that takes a list ends within that time for each 500 entries. When
//! thousands of attaches come at once, one may wait four times as long for its turn. While Redis is away or known not to answer, calls
//! fail at once. It is tried four times a second until it is back.

mod beginning;
mod config;
#[doc(hidden)]
pub mod fuzzing;
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
use std::time::Instant;

use async_trait::async_trait;
use fred::types::Value;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;
use starling_redis_link::{Connection, Resend, VERSION_MIN, check_version, version};

use crate::clock::system_now_us;
use crate::{
    Attach, Attached, Beat, ConversationKey, Dropped, Ended, Error, Held, Hold, NodeRecord, PresenceChange,
    PresenceEntry, Restored, SessionChange, SessionList, SessionRecord, SessionStore, Verdict,
};
use beginning::Beginning;
pub use config::RedisConfig;
use link::Link;
use presence::Presence;
use registry::Registry;
use sessions::Sessions;

/// How long a node's number of a tenant's connections is kept, milliseconds.
const CONNECTIONS_MS: i64 = 60_000;

/// The session store in Redis.
#[derive(Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    beginning: Arc<Beginning>,
    presence: Presence,
}

impl RedisStore {
    /// Starts to connect, and goes on trying. Redis need not be reachable yet. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] if the address can't be used.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        let link = Arc::new(Link::open(&config)?);
        let registry = Arc::new(Registry::new(link.clone(), config.lease));
        let sessions = Arc::new(Sessions::new(link.clone(), registry.clone()));
        let beginning = Beginning::new(sessions.clone(), link.attach_wait_max);
        let presence = Presence::new(link.clone(), registry.clone());
        Ok(Self { link, registry, sessions, beginning, presence })
    }

    /// Checks that Redis can be reached, accepts this node, and is recent enough.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it can't be reached, [`Error::Refused`] if the user or password is wrong or the user lacks a right,
    /// [`Error::Unsupported`] if it is too old.
    pub async fn check(&self) -> Result<(), Error> {
        match version(|command| self.link.pool.try_command(command)).await? {
            Some(version) => check_version(&version)?,
            None => tracing::warn!(
                "the version of Redis is not known, since this user has no right to HELLO or INFO; {VERSION_MIN} or later is needed"
            ),
        }
        // This fails if the user may not run scripts, or a command in them.
        self.registry.try_out().await
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.link.pool.close().await;
    }

    async fn set_connections_of(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        let max = max.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        let line = match max {
            -1 => Value::from_static_str("|"),
            _ => self.registry.recent().await?.line.clone(),
        };
        let set = self
            .link
            .scripts
            .connections
            .call(vec![self.link.keys.connections(tenant)])
            .with(node)
            .with(i64::try_from(count).unwrap_or(i64::MAX))
            .with(max)
            .with(CONNECTIONS_MS)
            .with(line);
        match self.link.pool.call(Connection::Any, Resend::Yes, set).await?.as_i64() {
            Some(set) => Ok(set == 1),
            None => Err(Error::Unavailable("Redis answered something unexpected".into())),
        }
    }

    async fn take_one(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error> {
        let keys = vec![self.link.keys.limit(tenant, user), self.link.keys.line(tenant, user)];
        let take = self
            .link
            .scripts
            .take
            .call(keys)
            .with(micros(rate.interval_us()))
            .with(micros(rate.tolerance_us()));
        match self.link.pool.call(Connection::Any, Resend::No, take).await?.as_i64() {
            Some(0) => Ok(Verdict::Allowed),
            Some(away_us) => Ok(Verdict::denied(away_us.unsigned_abs())),
            None => Err(Error::Unavailable("Redis answered something unexpected".into())),
        }
    }
}

/// Returns microseconds as the scripts read them.
fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        let beat = self.link.metrics.beat.measure(self.registry.beat(node)).await?;
        self.link.look_for_room_in_time();
        Ok(beat)
    }

    async fn leave(&self, node: &str) -> Result<(), Error> {
        self.link.metrics.leave.measure(self.registry.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.link.metrics.nodes.measure(self.registry.living()).await
    }

    fn now_us(&self) -> i64 {
        self.registry.clock.at(Instant::now()).unwrap_or_else(system_now_us)
    }

    async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        let now = Instant::now();
        let began = now.checked_sub(attach.waited).unwrap_or(now);
        self.sessions.note_window(attach);
        let attached = async {
            let Some(resume) = attach.resume else {
                let attached = Attached::New { stamp: self.beginning.begin(attach, began).await? };
                self.sessions.count(attach, &attached);
                return Ok(attached);
            };
            let _turn = self.link.attach_turn().await?;
            self.link.pool.within(self.sessions.attach(attach, resume, began)).await
        };
        self.link.metrics.attach.measure(attached).await
    }

    async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        let held = async {
            let _turn = self.link.attach_turn().await?;
            self.sessions.hold(hold).await
        };
        self.link.metrics.hold.measure(held).await
    }

    async fn restore(&self, node: &str, sessions: &[SessionRecord]) -> Result<Restored, Error> {
        self.link.metrics.restore.measure(self.sessions.restore(node, sessions)).await
    }

    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        self.link.metrics.detach.measure(self.sessions.detach(node, dropped, now_ms)).await
    }

    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        self.link.metrics.update.measure(self.sessions.update(batch)).await
    }

    async fn knows(&self, tenant: &TenantName, session: &str) -> Result<bool, Error> {
        self.link.metrics.end.measure(self.link.pool.within(self.sessions.knows(tenant, session))).await
    }

    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error> {
        self.link.metrics.end.measure(self.link.pool.within(self.sessions.end(tenant, session))).await
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        let page = self.link.pool.within(self.sessions.page(tenant, user, cursor, limit));
        self.link.metrics.sessions.measure(page).await
    }

    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        self.link.metrics.set_presence.measure(self.presence.set(node, batch)).await
    }

    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        self.link.metrics.presence.measure(self.presence.of(of)).await
    }

    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error> {
        self.link.metrics.keep_presence.measure(self.presence.keep(of)).await
    }

    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        let set = self.set_connections_of(node, tenant, count, max);
        self.link.metrics.connections.measure(self.link.pool.within(set)).await
    }

    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error> {
        self.link.metrics.take.measure(self.take_one(tenant, user, rate)).await
    }

    fn is_full(&self) -> bool {
        self.link.pool.is_full()
    }

    async fn ping(&self) -> Option<Result<(), Error>> {
        let call = async {
            self.link.look_for_room().await?;
            match self.link.pool.is_full() {
                true => Err(Error::Unavailable("Redis is full".into())),
                false => Ok(()),
            }
        };
        Some(self.link.metrics.ping.measure(call).await)
    }
}

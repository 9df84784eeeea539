//! The session store inside the process: for one node for good, and for several nodes of one process in tests.

mod leases;
mod presence;
mod sessions;

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;

use crate::{
    Allowances, Attach, Attached, Beat, Clock, ConversationKey, Dropped, Ended, Error, Held, Hold, LEASE_MS,
    NodeRecord, PresenceChange, PresenceEntry, Restored, SessionChange, SessionList, SessionRecord,
    SessionStore, Verdict,
};
use leases::{Leases, NodeState};
use presence::Presence;
use sessions::Sessions;

/// Settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// How long a node's lease runs after its last beat, milliseconds.
    pub lease_ms: u64,
    /// The clock of leases and limits. (`attach` and `detach` are passed the time.)
    pub clock: Clock,
    /// The most sessions, including those within their resume window. One takes a few hundred bytes, plus its names.
    pub sessions_max: usize,
    /// The most users whose allowance is kept, which are those who took from it within its period.
    pub limits_max: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { lease_ms: LEASE_MS, clock: Clock::system(), sessions_max: 1_000_000, limits_max: 1_000_000 }
    }
}

/// The session store inside the process. Every operation is short, so one lock guards all of it.
#[derive(Debug)]
pub struct MemoryStore {
    config: MemoryConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    sessions: Sessions,
    presence: Presence,
    limits: Allowances,
    /// Number of connections per node, for each tenant whose connections are limited.
    connections: HashMap<TenantName, HashMap<Box<str>, u64>>,
}

impl MemoryStore {
    /// Makes an empty store with default settings.
    pub fn new() -> Self {
        Self::with(MemoryConfig::default())
    }

    /// Makes an empty store.
    pub fn with(config: MemoryConfig) -> Self {
        let state = Mutex::new(State::new(&config));
        Self { config, state }
    }

    /// Forgets everything, as a restart of the process does. For tests.
    pub fn wipe(&self) {
        *self.state.lock() = State::new(&self.config);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn new(config: &MemoryConfig) -> Self {
        Self {
            leases: Leases::new(config.lease_ms),
            sessions: Sessions::new(config.sessions_max, config.clock.now_ms()),
            presence: Presence::default(),
            limits: Allowances::new(config.limits_max),
            connections: HashMap::new(),
        }
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        let now_ms = self.config.clock.now_ms();
        let mut state = self.state.lock();
        let lost = state.leases.beat(node, now_ms);
        for forgotten in state.leases.forget_long_dead(now_ms) {
            state.presence.forget(&forgotten);
        }
        Ok(Beat { lost, living: state.leases.living(now_ms) })
    }

    async fn leave(&self, node: &str) -> Result<(), Error> {
        self.state.lock().leases.leave(node, self.config.clock.now_ms());
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        Ok(self.state.lock().leases.living(self.config.clock.now_ms()))
    }

    fn now_us(&self) -> i64 {
        self.config.clock.now_us()
    }

    async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        let State { leases, sessions, .. } = &mut *self.state.lock();
        sessions.attach(attach, leases, self.config.clock.now_us())
    }

    async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, sessions, .. } = &mut *self.state.lock();
        sessions.hold(hold, leases, now_ms)
    }

    async fn restore(&self, node: &str, restored: &[SessionRecord]) -> Result<Restored, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, sessions, .. } = &mut *self.state.lock();
        sessions.restore(node, restored, leases, now_ms)
    }

    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        self.state.lock().sessions.detach(node, dropped, now_ms);
        Ok(())
    }

    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        self.state.lock().sessions.update(batch);
        Ok(())
    }

    async fn knows(&self, tenant: &TenantName, session: &str) -> Result<bool, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, sessions, .. } = &mut *self.state.lock();
        Ok(sessions.knows(tenant, session, leases, now_ms))
    }

    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, sessions, .. } = &mut *self.state.lock();
        Ok(sessions.end(tenant, session, leases, now_ms))
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, sessions, .. } = &mut *self.state.lock();
        sessions.page(tenant, user, cursor, limit, leases, now_ms)
    }

    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        self.state.lock().presence.set(node, batch);
        Ok(())
    }

    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, presence, .. } = &mut *self.state.lock();
        Ok(of.iter().map(|conversation| presence.of(conversation, leases, now_ms)).collect())
    }

    async fn keep_presence(&self, _of: &[ConversationKey]) -> Result<(), Error> {
        // Here presence has no lifetime of its own: it ends with its node.
        Ok(())
    }

    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        let now_ms = self.config.clock.now_ms();
        let State { leases, connections, .. } = &mut *self.state.lock();
        let of_tenant = connections.entry(tenant.clone()).or_default();
        of_tenant.retain(|other, _| !matches!(leases.state_of(other, now_ms), NodeState::Dead(_)));
        let others: u64 =
            of_tenant.iter().filter(|(other, _)| ***other != *node).map(|(_, count)| count).sum();
        let fits = max.is_none_or(|max| others.saturating_add(count) <= max);
        if fits && count > 0 {
            of_tenant.insert(node.into(), count);
        } else if fits {
            of_tenant.remove(node);
        }
        if of_tenant.is_empty() {
            connections.remove(tenant);
        }
        Ok(fits)
    }

    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error> {
        let now_us = u64::try_from(self.config.clock.now_ms()).unwrap_or(0).saturating_mul(1_000);
        self.state.lock().limits.take(tenant, user, rate, now_us)
    }

    async fn ping(&self) -> Option<Result<(), Error>> {
        None
    }
}

//! Who is connected where: sessions, the registry of nodes with their leases, presence, and limits that apply to all nodes together.
//!
//! None of it is the source of truth: the nodes can rebuild it, with the clients' tickets and cursors. [`memory`] serves one node;
//! [`redis`] serves any number of nodes, with a single server, Sentinel or a cluster.
//!
//! **Leases.** Everything that a node writes about its own sockets carries the node's name and is valid only while that node's lease
//! runs. A node renews its lease with [`SessionStore::beat`] each second. A node that stops is dead [`LEASE_MS`] later, and all its
//! entries become invalid at once, without a change to any of them.

mod allowances;
mod clock;
pub mod memory;
mod metrics;
mod model;
pub mod redis;

pub use allowances::Allowances;
pub use clock::Clock;
pub use model::*;

use async_trait::async_trait;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;

/// How long a node's lease runs after its last beat, milliseconds. With a beat each second several may be lost, and enough time is left
/// to tell others within the 15 s that the protocol promises.
pub const LEASE_MS: u64 = 8_000;

/// The most conversations and topics that are kept of one session. Further ones are resumed from the client's cursors only.
pub const NAMES_PER_SESSION_MAX: usize = 10_000;

/// The session store: who is connected where.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Renews this node's lease and record. Returns the living nodes, and whether this node had no lease (at its first beat, after the
    /// lease expired, or after the store was wiped). Then the node must write its sessions and presence again.
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error>;

    /// Ends this node's lease at once, for a clean stop.
    async fn leave(&self, node: &str) -> Result<(), Error>;

    /// Returns all living nodes.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error>;

    /// Returns the time by the store's clock, in microseconds of Unix time, as well as it is known without asking. With it, nodes whose
    /// clocks differ agree about which attach began first, even while the store is away.
    fn now_us(&self) -> i64;

    /// Creates a session, or begins to attach an existing one to this node (see [`Attach`]). The returned stamp is higher than that of
    /// every attach of the session that began earlier, and lower than that of every one that began later. An existing session stays with
    /// its holder: an attach that breaks off leaves no trace.
    async fn attach(&self, attach: &Attach) -> Result<Attached, Error>;

    /// Completes the attach of an existing session: this node holds it from now on, unless an attach with a higher stamp does.
    async fn hold(&self, hold: &Hold) -> Result<Held, Error>;

    /// Writes attached sessions again, after the store lost them or may have missed who holds them. A session that was ended, or that an
    /// attach with a higher stamp holds, is not overwritten; its socket on this node must be closed. So a node that missed a message
    /// about its sessions learns what happened to them. Each session that is written gets its full lifetime again: Redis drops a session
    /// that is attached for 7 days without any change.
    async fn restore(&self, node: &str, sessions: &[SessionRecord]) -> Result<Restored, Error>;

    /// Notes that sockets dropped at this time. Each session is kept for its resume window. A session that a later attach holds is not
    /// changed.
    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error>;

    /// Writes down what sessions joined, left and subscribed to, in one pipeline for the batch.
    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error>;

    /// Whether the tenant has this session, so that it can be ended.
    async fn knows(&self, tenant: &TenantName, session: &str) -> Result<bool, Error>;

    /// Ends a session for good: its ticket is void from now on. Returns the node that it was attached to, or `None` if the tenant has no
    /// such session.
    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error>;

    /// Returns a page of a tenant's sessions, of one user or of all.
    ///
    /// # Errors
    /// [`Error::Cursor`] for a `cursor` that no page returned as its `next`.
    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error>;

    /// Sets the number of users' sessions in conversations on a node, in one pipeline for the batch; 0 removes the entry.
    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error>;

    /// Returns the presence entries of these conversations, in their order, for living nodes only. One pipeline for the batch.
    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error>;

    /// Extends the lifetime of these conversations' presence keys. Each node calls it now and then for each of its conversations.
    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error>;

    /// Sets the number of a tenant's connections on a node, unless all living nodes together would then have more than `max` (`None`
    /// sets it in any case). Returns false, and changes nothing, if they would. Concurrent callers never exceed the limit together. The
    /// number expires after a minute, so a node repeats it. A node must not make two calls for one tenant at the same time.
    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error>;

    /// Takes one cell from a user's allowance, which applies to all nodes together.
    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error>;

    /// Whether the store has no memory for anything new, as far as this node knows. What it holds can still be read, and leases, sessions
    /// and presence are still written.
    fn is_full(&self) -> bool {
        false
    }

    /// Checks whether the store can be reached; `None` for a store inside the process.
    async fn ping(&self) -> Option<Result<(), Error>>;
}

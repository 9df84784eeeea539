//! Who is connected where: sessions, the registry of nodes with their leases, presence, and limits that hold over all nodes.
//!
//! Nothing here is the truth: all of it can be rebuilt by the nodes and from the clients' tickets and cursors.
//! [`memory`] serves one node; [`redis`] any number (alone, behind Sentinel, or a cluster).
//!
//! **Leases.** Everything that a node writes about its own sockets carries the node's name and counts only while that node's
//! lease runs. A node renews its lease with [`SessionStore::beat`] each second; one that stops doing so is
//! dead [`LEASE_MS`] later, and all its entries with it, without anybody touching them one by one.

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

/// How long a node lives after its last beat, milliseconds. With a beat each second it bears several lost ones, and
/// leaves time to tell others within the 15 s that the protocol promises.
pub const LEASE_MS: u64 = 8_000;

/// Most conversations and topics that are kept of one session; those beyond come back by the client's cursors alone.
pub const NAMES_PER_SESSION_MAX: usize = 10_000;

/// Who is connected where.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Renews this node's lease and record. Answers who lives, and whether this node's lease had been lost
    /// (first beat, expiry, or a wiped store): then the node writes its sessions and presence again.
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error>;

    /// Ends this node's lease at once, for a clean stop.
    async fn leave(&self, node: &str) -> Result<(), Error>;

    /// All living nodes.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error>;

    /// The time of the store's clock, microseconds of Unix time, as far as that is known without asking: so nodes whose clocks differ
    /// agree about which attach began first, also while the store is away.
    fn now_us(&self) -> i64;

    /// Makes a new session, or begins to attach an old one here (see [`Attach`]). The stamp in the answer is above that of every attach
    /// of the session that began before, and below that of one that began later. Nothing is taken from whoever holds an old session: an attach that breaks off leaves no trace.
    async fn attach(&self, attach: &Attach) -> Result<Attached, Error>;

    /// Completes the attach of an old session: this node holds it, unless an attach with a higher stamp does.
    async fn hold(&self, hold: &Hold) -> Result<Held, Error>;

    /// Writes attached sessions again after the store lost them, or may have missed who holds them. A session that was ended, or that an
    /// attach with a higher stamp holds, is not overwritten: its socket here must be closed. A node that may have missed a message about
    /// its sessions learns of it this way. Every session that is written gets its whole lifetime again: Redis forgets a session that is
    /// attached for 7 days without any change.
    async fn restore(&self, node: &str, sessions: &[SessionState]) -> Result<Restored, Error>;

    /// Notes that sockets dropped, at this time; the sessions are kept for the resume window. Only if that very attach still holds the
    /// session.
    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error>;

    /// Notes what sessions joined, left, subscribed to; one pipeline for the batch.
    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error>;

    /// Ends a session for good: its ticket is void from now on. Answers the node it is attached to; `None` if there is none of
    /// that id in that tenant.
    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error>;

    /// A page of sessions of a tenant, of one user or of all. [`Error::Cursor`] for a `cursor` that no page answered as its `next`.
    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error>;

    /// Sets how many sessions of a user are in a conversation on a node; 0 removes the entry. One pipeline for the batch.
    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error>;

    /// Who is in these conversations, of living nodes only; answers in the order asked, in one pipeline.
    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error>;

    /// Prolongs the lifetime of these conversations' presence keys (called slowly, per conversation and node).
    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error>;

    /// Sets how many connections of a tenant a node has, if all living nodes together have no more than `max` then (`None`: in any
    /// case). `false`: they would have more, and nothing was changed. Concurrent callers together never pass the limit. A node
    /// says it again within a minute, or it is forgotten; its own calls for a tenant must come one after the other.
    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error>;

    /// Takes one cell from a user's allowance over all nodes.
    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error>;

    /// `None` for a store inside the process; else whether it can be reached.
    async fn ping(&self) -> Option<Result<(), Error>>;
}

//! The settings of the hub.

use std::time::Duration;

use starling_model::{NAME_RULE, TenantName, is_name};
use starling_settings::{COUNT_MAX, DAY_SECONDS, Table, count, optional_count, seconds, settings, text};

/// The highest limit of a tenant: the largest number in TOML.
const TENANT_COUNT_MAX: u64 = i64::MAX as u64;
/// Most conversations that one session may join, and most topics. The session store limits both together.
const NAMES_MAX: u64 = starling_session_store::NAMES_PER_SESSION_MAX as u64 / 2;

/// Most bytes of one page that is read from the log, counting contents and metadata.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long a ticket is valid after it was made, days. A connection with refreshed tokens may stay open that long. Whether the session can
/// still be resumed is decided by the session store. Each resume gives the client a new ticket.
pub const TICKET_DAYS: u32 = 30;

settings! {
    /// What an operator can set about the hub.
    pub struct HubConfig {
        /// Address at which operators can reach this node. It is shown in the list of nodes.
        setting address: Option<String> = { Node "address" text() }
        /// Batches of messages that may be written to the database at the same time. Each conversation always uses the same one.
        setting append_lanes: usize = { Stores "append_lanes" count(1, 1..=64) }
        /// Messages that may wait for the database on each lane. Senders beyond that get `unavailable`. All lanes together hold at
        /// most 128 MiB.
        setting append_queue: usize = { Stores "append_queue" count(16_384, 1..=1_000_000) }
        /// How long a session can be resumed after its connection was lost.
        setting resume_window: Duration = { Delivery "resume_window_seconds" seconds(120, 1..=DAY_SECONDS) }
        /// Most messages that a join or a resume replays per conversation.
        setting replay_limit: u64 = { Delivery "replay_limit" count(1_000, 1..=1_000_000) }
        /// Limits of every tenant that has none of its own.
        part limits: TenantLimits = {}
        /// Reads of one user on one node, over all of the user's connections: `history`, `presence`, and what joins, resumes and
        /// other commands look up in the database. A page counts as one read per started 16 KiB, a resume as one per started 100
        /// conversations. Reads beyond the limit wait, or get `rate_limited`.
        setting user_reads_per_second: u32 = { Limits "limit_user_reads_per_second" count(1_000, 0..=COUNT_MAX) }
        /// Conversations that one session may have joined. Must not be 0.
        setting joins_per_session_max: usize = { Limits "limit_session_joins" count(1_000, 1..=NAMES_MAX) }
        /// Topics that one session may subscribe to. Must not be 0.
        setting topics_per_session_max: usize = { Limits "limit_session_topics" count(1_000, 1..=NAMES_MAX) }
        /// Members of a conversation. Must not be 0.
        setting members_per_conversation_max: usize = { Limits "limit_conversation_members" count(10_000, 1..=1_000_000) }
        /// Limits of single tenants. A limit that is not set here is the one that holds for all tenants.
        table tenants: Table<OwnLimits> = { "tenants" tenant_name }
        /// This node's name.
        plain node: String = { String::new() }
        /// Distinguishes this run of the node from earlier ones, from [`HubConfig::new_run`].
        plain run: String = { String::new() }
        /// The node's roles, for the list of nodes.
        plain roles: Vec<String> = { Vec::new() }
        /// The version of the program.
        plain version: String = { String::new() }
        /// How often the gateway pings. Clients are told.
        plain heartbeat: Duration = { Duration::from_secs(25) }
        /// Reads for clients that may be under way at once.
        plain reads_at_once: usize = { 1 }
        /// Reads of the log for lagging sockets that may be under way at once, so that sends find connections to the database.
        plain log_reads_at_once: usize = { 1 }
    }
}

settings! {
    /// Limits of one tenant; 0: none.
    #[derive(Copy, PartialEq, Eq)]
    pub struct TenantLimits {
        /// Writes of one user, over all nodes: `send`, `publish`, `create`, and each change of a conversation or its members.
        setting user_writes_per_minute: u32 = { Limits "limit_user_writes_per_minute" count(100, 0..=COUNT_MAX) }
        /// Connections of one tenant, over all nodes.
        setting connections: u64 = { Limits "limit_tenant_connections" count(0, 0..=TENANT_COUNT_MAX) }
        /// Conversations of one tenant.
        setting conversations: u64 = { Limits "limit_tenant_conversations" count(0, 0..=TENANT_COUNT_MAX) }
    }
}

settings! {
    /// What is set for one tenant alone.
    #[derive(Copy, PartialEq, Eq)]
    pub struct OwnLimits {
        /// In place of `limit_user_writes_per_minute`.
        setting user_writes_per_minute: Option<u32> = { Limits "user_writes_per_minute" optional_count(0..=COUNT_MAX) }
        /// In place of `limit_tenant_connections`.
        setting connections: Option<u64> = { Limits "connections" optional_count(0..=TENANT_COUNT_MAX) }
        /// In place of `limit_tenant_conversations`.
        setting conversations: Option<u64> = { Limits "conversations" optional_count(0..=TENANT_COUNT_MAX) }
    }
}

impl OwnLimits {
    /// Returns these limits, with the general ones where none is set.
    fn over(self, general: TenantLimits) -> TenantLimits {
        TenantLimits {
            user_writes_per_minute: self.user_writes_per_minute.unwrap_or(general.user_writes_per_minute),
            connections: self.connections.unwrap_or(general.connections),
            conversations: self.conversations.unwrap_or(general.conversations),
        }
    }
}

/// Checks the name of a tenant with own limits. Limits under an invalid name would silently apply to nobody, since no token can have it.
fn tenant_name(name: &str) -> Result<(), String> {
    if is_name(name) { Ok(()) } else { Err(format!("{name:?} is no name; {NAME_RULE}")) }
}

/// Separates a node's name from its run in a lease. No name contains it.
const RUN_SEPARATOR: char = '~';

impl HubConfig {
    /// Makes a random string that distinguishes this run of the node from others.
    pub fn new_run() -> String {
        format!("{:08x}", crate::random::number() as u32)
    }

    /// Returns the name under which the session store and other nodes know this run of the node. It contains the run, so that presence and
    /// sessions that an earlier run left behind are not taken for this one's.
    pub fn lease(&self) -> String {
        format!("{}{RUN_SEPARATOR}{}", self.node, self.run)
    }

    /// Returns the name of the node that has this lease.
    pub fn node_of(lease: &str) -> &str {
        lease.split(RUN_SEPARATOR).next().unwrap_or(lease)
    }

    /// Returns the limits of a tenant.
    pub fn limits_of(&self, tenant: &TenantName) -> TenantLimits {
        self.tenants.get(tenant.as_str()).map_or(self.limits, |own| own.over(self.limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_the_name_of_its_node() {
        let lease = format!("a.b:c@d-e{RUN_SEPARATOR}{}", HubConfig::new_run());
        assert_eq!(HubConfig::node_of(&lease), "a.b:c@d-e");
        assert_eq!(HubConfig::node_of("node-1"), "node-1");
    }
}

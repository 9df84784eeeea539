//! What an operator can set about the hub.

use std::time::Duration;

use starling_model::TenantName;

use crate::Map;

/// What an operator can set about the hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// This node's name.
    pub node: String,
    /// Tells this life of the node from those before it, from [`HubConfig::new_life`].
    pub life: String,
    /// Where this node can be reached, for operators.
    pub address: Option<String>,
    /// Program version.
    pub version: String,
    /// For how long a session outlives its socket.
    pub resume_window: Duration,
    /// How often the gateway pings; told to clients.
    pub heartbeat: Duration,
    /// How many messages a join or resume replays at most, per conversation.
    pub replay_limit: u64,
    /// Limits for every tenant that has none of its own.
    pub limits: TenantLimits,
    /// Limits of single tenants.
    pub tenants: Map<TenantName, TenantLimits>,
    /// How many conversations one session may be joined to.
    pub joins_per_session_max: usize,
    /// How many topics one session may be subscribed to.
    pub topics_per_session_max: usize,
    /// How many members a conversation may have.
    pub members_per_conversation_max: usize,
    /// How many batches may be on their way to the database at once. Each conversation always takes the same lane.
    pub append_lanes: usize,
    /// How many messages may wait for the database on each lane (and 128 MiB on all) before senders are told `unavailable`.
    pub append_queue: usize,
    /// How many reads of the database a user may make a second, over all of their sockets and requests on this node; 0: any number.
    pub user_reads_per_second: u32,
    /// How many reads that clients ask for may be under way at once.
    pub reads_at_once: usize,
    /// How many reads of the log for sockets that are behind may be under way at once, so that sends find connections to the database.
    pub log_reads_at_once: usize,
}

/// Limits of one tenant; 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Writes of one user, over all nodes, per minute: `send`, `publish`, `create`, and each change of a conversation or its members.
    pub user_writes_per_minute: u32,
    /// Open sockets, over all nodes.
    pub connections: u64,
    /// Conversations in the database.
    pub conversations: u64,
}

/// What stands between a node's name and its life; in no name.
const LIFE: char = '~';

impl HubConfig {
    /// A new life, at random.
    pub fn new_life() -> String {
        format!("{:08x}", crate::random::number() as u32)
    }

    /// What this node is called where nodes meet: in the session store and on the broker. Leases are of a life and not of a name: what
    /// a node of the same name has left behind there (people who were on it, sessions) is not taken for this one's.
    pub fn lease(&self) -> String {
        format!("{}{LIFE}{}", self.node, self.life)
    }

    /// The name of the node that has this lease.
    pub fn node_of(lease: &str) -> &str {
        lease.split(LIFE).next().unwrap_or(lease)
    }

    /// The limits of a tenant.
    pub fn limits_of(&self, tenant: &TenantName) -> TenantLimits {
        self.tenants.get(tenant).copied().unwrap_or(self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_tells_the_name_of_its_node() {
        let lease = format!("a.b:c@d-e{LIFE}{}", HubConfig::new_life());
        assert_eq!(HubConfig::node_of(&lease), "a.b:c@d-e");
        assert_eq!(HubConfig::node_of("node-1"), "node-1");
    }
}

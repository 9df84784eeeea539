//! This node's part in the cluster: its record, its reaction to changes of other nodes, and its leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_fanout::LinkStatus;
use starling_session_store::NodeRecord;
use tokio::time::{Instant, timeout_at};

use crate::hub::Hub;
use crate::neighbours::{LoadsUnknown, LocalNode, NodeHealth};
use crate::node_message::NodeMessage;

/// How often a leaving node checks whether its work for Redis and the database has been done.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl LocalNode for Hub {
    fn record(&self) -> NodeRecord {
        let gauges = &self.gauges;
        NodeRecord {
            node: self.name.to_string(),
            address: self.config.address.clone(),
            connections: Some(gauges.connections.load(Ordering::Relaxed)),
            sessions: Some((self.sessions.count() + self.presence.lingering_count()) as u64),
            version: self.config.version.clone(),
            started_at_ms: self.started_at_ms,
            draining: gauges.draining.load(Ordering::Relaxed),
            tenants: self.places.limited_tenants(),
            messages: self.appends.committed(),
            deliveries: gauges.deliveries.load(Ordering::Relaxed),
            delivery_p50_us: gauges.delivery_p50_us.load(Ordering::Relaxed),
            delivery_p99_us: gauges.delivery_p99_us.load(Ordering::Relaxed),
            presence_by_id: true,
            worker_only: false,
            roles: self.config.roles.clone(),
        }
    }

    fn hear_died(&self, nodes: &[String]) {
        self.presence.forget_nodes(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        // The dead node may not have published its last messages and changes of members.
        self.topics.forget_positions();
        self.reload(None);
    }

    async fn lease_renewed(&self, is_lost: bool) {
        if is_lost {
            // While this node had no lease, the others may have forgotten what it is interested in.
            self.reload(None);
        }
        if self.writer.take_rewrite_wanted() || is_lost {
            self.write_all_again().await;
        }
    }
}

impl Hub {
    /// Publishes at once that this node drains, and learns which nodes live, if the session store responds in time.
    pub async fn announce_drain(self: &Arc<Self>) {
        self.gauges.draining.store(true, Ordering::Relaxed);
        if let Some(jobs) = &self.jobs {
            jobs.drain();
        }
        self.neighbours.announce(self.clone()).await;
    }

    /// Leaves the cluster within this time, whatever hangs, after the node's own jobs were handed back. Waiting messages are committed and
    /// published first. Then the other nodes are told that this one leaves, so that they need not wait for its lease to expire.
    pub async fn leave(&self, limit: Duration) {
        if let Some(jobs) = &self.jobs {
            jobs.work_ended().await;
        }
        let began = Instant::now();
        // The other half of the time is for leaving.
        if timeout_at(began + limit / 2, self.work_done()).await.is_err() {
            tracing::warn!(
                "some committed messages were not published in time; other nodes read them from the log"
            );
        }
        let work = async { _ = tokio::join!(self.last_seen.write(), self.work_done()) };
        self.neighbours.leave(began + limit, work).await;
    }

    /// Returns this node's record for the other nodes.
    pub fn record(&self) -> NodeRecord {
        LocalNode::record(self)
    }

    /// Whether this node hears publications now. `true` if there are no other nodes.
    pub fn hears(&self) -> bool {
        self.neighbours.hears()
    }

    /// Returns how well this node can serve its clients now.
    pub fn node_health(&self) -> NodeHealth {
        self.neighbours.node_health()
    }

    /// Returns the state of the link to Redis. `None`: there is no link.
    pub fn fanout_health(&self) -> Option<LinkStatus> {
        self.neighbours.link()
    }

    /// Returns the number of sessions that are attached to this node.
    pub fn attached(&self) -> u64 {
        self.sessions.count() as u64
    }

    /// Returns the number of sessions on each of the other nodes, except those that drain. They are unknown for `settle` after a node came,
    /// went or began to drain.
    pub fn loads_of_others(&self, settle: Duration) -> Result<Vec<u64>, LoadsUnknown> {
        self.neighbours.loads(settle)
    }

    /// Returns the number of other nodes that may take this node's clients. `None`: the session store has not yet reported which nodes
    /// there are.
    pub fn elsewhere(&self) -> Option<usize> {
        self.neighbours.serving_count()
    }

    /// Waits until nothing waits for the database, the session store or Redis. The queues are checked in the order in which one fills the
    /// next.
    async fn work_done(&self) {
        let is_done = || {
            self.appends.is_idle()
                && self.topic_publisher.is_idle()
                && self.writer.is_idle()
                && self.publisher.is_idle()
        };
        while !is_done() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes this node's sessions and presence again, after the store lost them.
    async fn write_all_again(&self) {
        if !self.holding.write_all().await {
            self.writer.want_rewrite();
            return;
        }
        if !self.writer.rewrite_presence().await {
            self.writer.want_rewrite();
        }
        self.presence.reload_all();
        // A node that read the store before this write has found none of this node's users online.
        self.publisher.publish_message(0, &NodeMessage::Restored { node: self.node.clone() });
    }
}

#[cfg(test)]
mod tests {
    use starling_auth::Identity;
    use starling_fanout::TopicSettings;
    use starling_fanout::memory::MemoryFanout;

    use crate::sessions::Session;
    use crate::{Hub, OwnLimits, SocketId, testing};

    fn enter(hub: &Hub, session: &str, tenant: &str) {
        let identity = Identity {
            user: "ada".into(),
            tenant: tenant.into(),
            scopes: std::sync::Arc::default(),
            expires_at_ms: i64::MAX,
        };
        let socket = SocketId { shard: 0, key: 0, generation: 0 };
        let session = Session::new(session.into(), identity, 0, socket, 1);
        let inserted = hub.sessions.insert(&session.into(), "a").expect("the first one");
        assert!(inserted.older.is_none());
    }

    #[tokio::test]
    async fn a_beat_counts_the_tenants_whose_connections_are_limited() {
        let fanout = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let limits = OwnLimits { connections: Some(9), ..OwnLimits::default() };
        let limited = |config: &mut crate::HubConfig| {
            config.tenants = [("acme".to_owned(), limits)].into_iter().collect();
        };
        let hub = testing::hub(limited, fanout).await;
        for (session, tenant) in [("1", "acme"), ("2", "acme"), ("3", "other")] {
            enter(&hub, session, tenant);
        }
        let record = hub.record();
        assert_eq!(record.sessions, Some(3));
        assert_eq!(record.tenants.into_iter().collect::<Vec<_>>(), [("acme".into(), 2)]);
    }
}

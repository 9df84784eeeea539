//! What the hub says of its node to the others, and does when they change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_fanout::LinkStatus;
use starling_session_store::NodeRecord;
use tokio::time::{Instant, timeout_at};

use crate::hub::Hub;
use crate::neighbours::{LocalNode, Standing, Unsure};
use crate::node_message::NodeMessage;

/// How often a node that leaves looks whether its work for the servers has been done.
const LOOK: Duration = Duration::from_millis(10);

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
        }
    }

    fn hear_died(&self, nodes: &[String]) {
        self.presence.forget_nodes(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        // What a node did last, a message or a change of members, it may not have told any more.
        self.topics.doubt();
        self.reload(None);
    }

    async fn lease_renewed(&self, is_lost: bool) {
        if self.writer.take_rewrite_wanted() || is_lost {
            self.write_all_again().await;
        }
    }
}

impl Hub {
    /// Tells the others at once that this node drains, and learns which of them there are, if the session store answers in time.
    pub async fn announce_drain(self: &Arc<Self>) {
        self.gauges.draining.store(true, Ordering::Relaxed);
        self.neighbours.announce(self.clone()).await;
    }

    /// Ends what this node does among the others, within this time, whatever hangs: what waits for the log is written and told, then
    /// everybody learns that the node goes, so that nobody waits for its lease.
    pub async fn leave(&self, limit: Duration) {
        let began = Instant::now();
        // The other half is for taking leave.
        if timeout_at(began + limit / 2, self.work_done()).await.is_err() {
            tracing::warn!(
                "some committed messages were not published in time; other nodes read them from the log"
            );
        }
        self.neighbours.say_leaving();
        let leaving =
            async { tokio::join!(self.neighbours.end_lease(), self.last_seen.write(), self.work_done()) };
        if timeout_at(began + limit, leaving).await.is_err() {
            tracing::warn!("the node could not take leave in time; its lease runs out by itself");
        }
    }

    /// What this node says of itself.
    pub fn record(&self) -> NodeRecord {
        LocalNode::record(self)
    }

    /// Whether publications can be heard now; `true` where there are no other nodes.
    pub fn hears(&self) -> bool {
        self.neighbours.hears()
    }

    /// What this node can do for its clients now.
    pub fn standing(&self) -> Standing {
        self.neighbours.standing()
    }

    /// The state of the link to the broker; `None` where there is none.
    pub fn fanout_health(&self) -> Option<LinkStatus> {
        self.neighbours.link()
    }

    /// How many sessions are attached to this node.
    pub fn attached(&self) -> u64 {
        self.sessions.count() as u64
    }

    /// How many sessions each of the other nodes has, those that drain left out; or why that is not known.
    pub fn loads_of_others(&self) -> Result<Vec<u64>, Unsure> {
        self.neighbours.loads()
    }

    /// How many other nodes may take this node's clients; `None` where nobody has said yet which nodes there are.
    pub fn elsewhere(&self) -> Option<usize> {
        self.neighbours.serving_count()
    }

    /// Waits until nothing waits for the log, the session store or the broker. Looked for in the order in which one leads to another.
    async fn work_done(&self) {
        let is_done = || {
            self.appends.is_idle()
                && self.topic_publisher.is_idle()
                && self.writer.is_idle()
                && self.publisher.is_idle()
        };
        while !is_done() {
            tokio::time::sleep(LOOK).await;
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
        // Whoever read the store before this was written has taken this node's people for gone.
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

//! This node's lease: renewed each second, and ended when it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_model::TenantName;
use starling_session_store::NodeRecord;
use tokio::time::{Instant, timeout_at};

use crate::hub::Hub;
use crate::hub::tick::every_second;
use crate::neighbours::changes::Changes;
use crate::node_message::NodeMessage;

/// How often it is looked whether what waits for the servers has been done.
const LOOK: Duration = Duration::from_millis(10);
/// How long a drain waits for the session store before it begins.
const ANNOUNCE: Duration = Duration::from_millis(500);

impl Hub {
    /// The lease is renewed apart from everything else: a database that hangs must not make a node look dead.
    pub(crate) async fn beat_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.goes_on(&mut interval).await {
            let _turn = self.beating.lock().await;
            // A beat after the lease was ended would begin another one.
            if !self.has_left() {
                self.beat().await;
            }
        }
    }

    /// Tells the others at once that this node drains, and learns which of them there are, if the session store answers in time.
    pub async fn announce_drain(self: &Arc<Self>) {
        self.gauges.draining.store(true, Ordering::Relaxed);
        let hub = self.clone();
        // A task of its own: a beat that is given up halfway would forget what it was to write anew.
        let beat = self.runtime.spawn(async move {
            let _turn = hub.beating.lock().await;
            if !hub.has_left() {
                hub.beat().await;
            }
        });
        if timeout_at(Instant::now() + ANNOUNCE, beat).await.is_err() {
            tracing::debug!("the session store did not answer; the next beat says that this node drains");
        }
    }

    /// Renews this node's lease, learns who lives, and writes anew what the store lost.
    pub(crate) async fn beat(self: &Arc<Self>) {
        match self.session_store.beat(&self.record_of_lease()).await {
            Ok(beat) => {
                let mut known = beat.living;
                known.sort_by(|a, b| a.node.cmp(&b.node));
                let now = Instant::now();
                for record in
                    known.iter().filter(|record| self.publisher.is_clustered() && record.node != *self.node)
                {
                    self.peers.expect(&record.node, now);
                }
                let died: Vec<String> = {
                    let mut nodes = self.nodes.lock();
                    let lives = |old: &NodeRecord| known.iter().any(|new| new.node == old.node);
                    let died = nodes.iter().filter(|old| !lives(old)).map(|old| old.node.clone()).collect();
                    // The first beat finds everybody; a store that was wiped knows nobody until they beat again.
                    let comparable = !nodes.is_empty() && !beat.lost;
                    if self.publisher.is_clustered() && comparable {
                        Changes::between(&nodes, &known, |node| self.peers.has_left(node)).log();
                    }
                    let as_before = |(old, new): (&NodeRecord, &NodeRecord)| {
                        old.node == new.node && old.draining == new.draining
                    };
                    let changed = nodes.len() != known.len() || !nodes.iter().zip(&known).all(as_before);
                    self.freshness.read(now, changed);
                    *nodes = known;
                    died
                };
                if !died.is_empty() {
                    self.forget_nodes(&died.iter().map(String::as_str).collect::<Vec<_>>());
                    // What a node did last, a message or a change of members, it may not have told any more.
                    self.topics.doubt();
                    self.miss(None);
                }
                if beat.lost || self.writer.take_rewrite_wanted() {
                    self.write_all_again().await;
                }
            }
            Err(error) => tracing::debug!(%error, "the session store did not take the beat"),
        }
    }

    /// What this node says of itself.
    pub fn record(&self) -> NodeRecord {
        let gauges = &self.gauges;
        NodeRecord {
            node: self.name.to_string(),
            address: self.config.address.clone(),
            connections: Some(gauges.connections.load(Ordering::Relaxed)),
            sessions: Some((self.sessions.count() + self.lingering.count()) as u64),
            version: self.config.version.clone(),
            started_at_ms: self.started_at_ms,
            draining: gauges.draining.load(Ordering::Relaxed),
            tenants: self.limited_tenants(),
            messages: gauges.messages.load(Ordering::Relaxed),
            deliveries: gauges.deliveries.load(Ordering::Relaxed),
            delivery_p50_us: gauges.delivery_p50_us.load(Ordering::Relaxed),
            delivery_p99_us: gauges.delivery_p99_us.load(Ordering::Relaxed),
            presence_by_id: true,
        }
    }

    /// Ends what this node does among the others, within this time, whatever hangs: what waits for the log is written and told, then
    /// everybody learns that the node goes, so that nobody waits for its lease.
    pub async fn leave(&self, limit: Duration) {
        let began = Instant::now();
        // The other half is for taking leave.
        if timeout_at(began + limit / 2, self.work_done()).await.is_err() {
            tracing::warn!(
                "some messages still wait for the log; who has joined elsewhere is shown them by the log"
            );
        }
        self.left.store(true, Ordering::Relaxed);
        self.publisher.publish_message(0, &NodeMessage::Leaving { node: self.node.clone() });
        let leaving = async { tokio::join!(self.end_lease(), self.write_last_seen(), self.work_done()) };
        if timeout_at(began + limit, leaving).await.is_err() {
            tracing::warn!("leave could not be taken in time; the lease runs out by itself");
        }
    }

    /// Whether this node has taken leave of the others: it says nothing more of itself.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    async fn end_lease(&self) {
        let _turn = self.beating.lock().await;
        if let Err(error) = self.session_store.leave(&self.node).await {
            tracing::debug!(%error, "the lease could not be ended; it runs out by itself");
        }
    }

    /// Waits until nothing waits for the log, the session store or the broker. Looked for in the order in which one leads to another.
    async fn work_done(&self) {
        let done = || {
            self.append_lanes.iter().all(|lane| lane.is_idle())
                && self.topic_lane.is_idle()
                && self.writer.is_idle()
                && self.publisher.is_idle()
        };
        while !done() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many sessions there are of each tenant whose connections are limited: what the other nodes need for its limit.
    pub(crate) fn limited_tenants(&self) -> BTreeMap<TenantName, u64> {
        let per_tenant = self.sessions.per_tenant().into_iter();
        per_tenant.filter(|(tenant, _)| self.config.limits_of(tenant).connections > 0).collect()
    }

    fn record_of_lease(&self) -> NodeRecord {
        NodeRecord { node: self.node.to_string(), ..self.record() }
    }

    /// Writes this node's sessions and presence again, after the store lost them.
    async fn write_all_again(self: &Arc<Self>) {
        if !self.write_sessions_again().await {
            self.writer.want_rewrite();
            return;
        }
        if !self.writer.rewrite_presence().await {
            self.writer.want_rewrite();
        }
        self.unread.insert_all();
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
    use crate::{Hub, SocketId, TenantLimits, testing};

    fn enter(hub: &Hub, session: &str, tenant: &str) {
        let identity = Identity {
            user: "ada".into(),
            tenant: tenant.into(),
            scopes: std::sync::Arc::default(),
            expires_at_ms: i64::MAX,
        };
        let socket = SocketId { shard: 0, key: 0, generation: 0 };
        let session = Session::new(session.into(), identity, 0, socket, 1);
        assert!(matches!(hub.sessions.insert(&session.into(), "a"), Ok(None)));
    }

    #[tokio::test]
    async fn a_beat_counts_the_tenants_whose_connections_are_limited() {
        let fanout = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let limits = TenantLimits { user_writes_per_minute: 0, connections: 9, conversations: 0 };
        let limited = |config: &mut crate::HubConfig| {
            config.tenants.insert("acme".into(), limits);
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

//! This node's lease: renewed each second, and ended when the node leaves.

use std::sync::Arc;
use std::time::Duration;

use starling_session_store::NodeRecord;
use tokio::time::{Instant, timeout, timeout_at};

use super::{LocalNode, Neighbours};
use crate::clock::every_second;
use crate::node_message::NodeMessage;

/// How long a drain waits for the session store before it begins.
const ANNOUNCE: Duration = Duration::from_millis(500);

impl Neighbours {
    /// Renews the lease each second. This is a task of its own, so that a database that hangs does not make the node look dead.
    pub(super) async fn beat_forever(self: Arc<Self>, local: Arc<impl LocalNode>) {
        let mut interval = every_second();
        while self.lifetime.next_tick(&mut interval).await {
            self.beat(&*local).await;
        }
    }

    /// Publishes this node's current record at once, and learns which nodes live, if the session store responds in time.
    pub async fn announce(self: &Arc<Self>, local: Arc<impl LocalNode>) {
        let neighbours = self.clone();
        // The beat is a task of its own. A beat that is given up halfway would forget what it was to write again.
        #[expect(clippy::disallowed_methods, reason = "one beat; the task beat sends the next")]
        let beat = self.runtime.spawn(async move { neighbours.beat(&*local).await });
        if timeout(ANNOUNCE, beat).await.is_err() {
            tracing::debug!("the session store did not respond; the next beat announces the drain");
        }
    }

    /// Leaves the cluster, so that the other nodes need not wait for this node's lease to expire: tells them, gives the lease back, and
    /// finishes `work`. What is not done at the deadline is left undone.
    pub async fn leave(&self, deadline: Instant, work: impl Future<Output = ()>) {
        self.say_leaving();
        let leaving = async { tokio::join!(self.end_lease(), work) };
        if timeout_at(deadline, leaving).await.is_err() {
            tracing::warn!("the node could not leave the cluster in time; its lease will expire");
        }
    }

    /// Tells the other nodes that this node leaves. It publishes no more beats after this.
    fn say_leaving(&self) {
        self.lifetime.end();
        self.publisher.publish_message(0, &NodeMessage::Leaving { node: self.node.clone() });
    }

    async fn end_lease(&self) {
        let _turn = self.lease.lock().await;
        if let Err(error) = self.store.leave(&self.node).await {
            tracing::debug!(%error, "the lease could not be ended; it will expire");
        }
    }

    /// Renews the lease, learns which nodes live, and lets the rest of the node act on it.
    pub(super) async fn beat(&self, local: &impl LocalNode) {
        let _turn = self.lease.lock().await;
        // A beat after the end of the lease would start another lease.
        if self.lifetime.has_ended() {
            return;
        }
        let record = NodeRecord { node: self.node.to_string(), ..local.record() };
        let beat = match self.store.beat(&record).await {
            Ok(beat) => beat,
            Err(error) => return tracing::debug!(%error, "the session store did not accept the beat"),
        };
        let died = self.learn_living(beat.living, beat.lost);
        if !died.is_empty() {
            local.hear_died(&died);
        }
        local.lease_renewed(beat.lost).await;
    }

    /// Stores which nodes live, and returns those that no longer do.
    fn learn_living(&self, living: Vec<NodeRecord>, is_lost: bool) -> Vec<String> {
        let now = Instant::now();
        if !self.publisher.is_clustered() {
            return self.registry.learn(living, now, None);
        }
        for record in living.iter().filter(|record| record.node != *self.node) {
            self.peers.expect(&record.node, now);
        }
        self.publisher.list_nodes(&living, &self.node);
        let has_left: &dyn Fn(&str) -> bool = &|node| self.peers.has_left(node);
        // After the store lost its data, nodes are missing from it only until their next beats, so they must not be logged as gone.
        self.registry.learn(living, now, (!is_lost).then_some(has_left))
    }
}

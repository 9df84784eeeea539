//! A node that takes no clients. It has a lease, hears the others and is heard, and leaves in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use starling_conversation_store::ConversationStore;
use starling_fanout::{Delivery, Error, Fanout, LinkStatus, Receiver};
use starling_job_service::JobService;
use starling_session_store::{NodeRecord, SessionStore};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{LocalNode, Neighbours, NodeHealth};
use crate::node_message::{self, NodeMessage, Received};
use crate::publisher::Publisher;
use crate::{HubConfig, clock, job_tasks};

/// How often a leaving worker checks whether its publications have been sent.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The parts that a worker consists of.
pub struct WorkerParts {
    /// Settings. Only those of the node itself are used.
    pub config: HubConfig,
    /// The database, through which deaf nodes ask about the others.
    pub conversations: Arc<dyn ConversationStore>,
    /// Keeps the leases.
    pub sessions: Arc<dyn SessionStore>,
    /// Publications between nodes.
    pub fanout: Arc<dyn Fanout>,
    /// Durable jobs. `None`: this node does none.
    pub jobs: Option<Arc<JobService>>,
    /// Runs the worker's own tasks.
    pub runtime: Handle,
}

/// A node that takes no clients. One per process, instead of a [`crate::Hub`].
pub struct Worker {
    config: HubConfig,
    fanout: Arc<dyn Fanout>,
    jobs: Option<Arc<JobService>>,
    publisher: Arc<Publisher>,
    neighbours: Arc<Neighbours>,
    runtime: Handle,
    started_at_ms: i64,
    draining: AtomicBool,
    /// Notified when an operator wants this node to drain.
    drain_wanted: Notify,
}

impl Worker {
    /// Creates a worker. [`Worker::start`] gets its lease.
    pub fn new(parts: WorkerParts) -> Arc<Worker> {
        let WorkerParts { config, conversations, sessions, fanout, jobs, runtime } = parts;
        let node: Arc<str> = config.lease().into();
        let publisher = Publisher::new(node.clone(), fanout.clone(), &runtime);
        let neighbours = Neighbours::new(
            node,
            sessions,
            fanout.clone(),
            conversations,
            publisher.clone(),
            runtime.clone(),
        );
        Arc::new(Worker {
            config,
            fanout,
            jobs,
            publisher,
            neighbours,
            runtime,
            started_at_ms: clock::now_ms(),
            draining: AtomicBool::new(false),
            drain_wanted: Notify::new(),
        })
    }

    /// Gets the lease and begins to hear the other nodes. If Redis is down it returns at once, and the link is repaired in the background.
    ///
    /// # Errors
    /// The fan-out's settings can't be used.
    pub async fn start(self: &Arc<Self>) -> Result<(), Error> {
        self.fanout.start(Arc::new(WorkerReceiver { worker: Arc::downgrade(self) })).await?;
        self.neighbours.start(self.clone()).await;
        if let Some(jobs) = &self.jobs {
            job_tasks::spawn(&self.runtime, jobs, &self.publisher);
        }
        Ok(())
    }

    /// Returns when an operator has asked this node to drain.
    pub async fn drain_wanted(&self) {
        self.drain_wanted.notified().await;
    }

    /// Publishes at once that this node drains, if the session store responds in time, and begins to hand back its jobs.
    pub async fn announce_drain(self: &Arc<Self>) {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(jobs) = &self.jobs {
            jobs.drain();
        }
        self.neighbours.announce(self.clone()).await;
    }

    /// Leaves the cluster within this time, whatever hangs, after the jobs were handed back.
    pub async fn leave(&self, limit: Duration) {
        if let Some(jobs) = &self.jobs {
            jobs.work_ended().await;
        }
        let work = async {
            while !self.publisher.is_idle() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        self.neighbours.leave(Instant::now() + limit, work).await;
    }

    /// Returns how well this node hears the others now.
    pub fn node_health(&self) -> NodeHealth {
        self.neighbours.node_health()
    }

    /// Returns the state of the link to Redis. `None`: there is no link.
    pub fn fanout_health(&self) -> Option<LinkStatus> {
        self.neighbours.link()
    }

    fn hear(&self, body: &Bytes) {
        let Some(Received::Other(message)) = node_message::decode(body) else { return };
        match message {
            NodeMessage::Here { node } => self.neighbours.hear_here(&node),
            NodeMessage::Leaving { node } => self.neighbours.hear_leaving(&node),
            NodeMessage::Drain { node } if *node == *self.config.lease() => self.drain_wanted.notify_one(),
            NodeMessage::JobsReady {} => {
                if let Some(jobs) = &self.jobs {
                    jobs.hear_ready();
                }
            }
            _ => {}
        }
    }
}

impl LocalNode for Worker {
    fn record(&self) -> NodeRecord {
        NodeRecord {
            node: self.config.node.clone(),
            address: self.config.address.clone(),
            version: self.config.version.clone(),
            started_at_ms: self.started_at_ms,
            draining: self.draining.load(Ordering::Relaxed),
            presence_by_id: true,
            worker_only: true,
            roles: self.config.roles.clone(),
            ..NodeRecord::default()
        }
    }

    fn hear_died(&self, _nodes: &[String]) {}

    async fn lease_renewed(&self, _is_lost: bool) {}
}

/// Passes the fan-out's deliveries to a worker. Does not keep it alive.
struct WorkerReceiver {
    worker: Weak<Worker>,
}

impl Receiver for WorkerReceiver {
    fn receive(&self, delivery: Delivery) {
        let Some(worker) = self.worker.upgrade() else { return };
        match delivery {
            Delivery::Publication { body, .. } | Delivery::Direct { body } => worker.hear(&body),
            Delivery::Probe { nonce } => worker.neighbours.hear_probe(nonce),
            Delivery::Gap { partition } => worker.neighbours.hear_gap(partition.is_none()),
            Delivery::Topic { .. } | Delivery::Down => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_fanout::TopicSettings;
    use starling_fanout::memory::MemoryBus;
    use starling_session_store::memory::MemoryStore;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_worker_has_a_lease_takes_no_clients_and_leaves() {
        let (bus, store) =
            (MemoryBus::new(TopicSettings { history: 1, history_seconds: 1 }), Arc::new(MemoryStore::new()));
        let named = |node: &str| HubConfig { node: node.to_owned(), ..testing::config() };
        let hub_config = named("a");
        let fanout = bus.node(&hub_config.lease());
        let hub = testing::hub_of(hub_config, fanout, store.clone()).await;
        hub.start().await.expect("a start");
        let config = named("b");
        let fanout = bus.node(&config.lease());
        let (conversations, runtime) = (testing::log().await, Handle::current());
        let worker = Worker::new(WorkerParts {
            config,
            conversations,
            sessions: store.clone(),
            fanout,
            jobs: None,
            runtime,
        });
        worker.start().await.expect("a start");
        hub.announce_drain().await;
        let leases = async || store.nodes().await.expect("an answer");
        assert!(leases().await.iter().any(|record| record.worker_only), "{:?}", leases().await);
        assert!(hub.elsewhere() == Some(0), "nobody is sent to a worker");
        worker.leave(Duration::from_secs(5)).await;
        assert!(!leases().await.iter().any(|record| record.worker_only));
    }
}

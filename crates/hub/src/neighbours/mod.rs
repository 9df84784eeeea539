//! This node's view of the other nodes: its lease, which nodes live, and whether they hear each other.
//!
//! It needs neither sessions nor conversations, since a node that takes no clients has neighbours, too (see [`Worker`]).

mod changes;
mod lease;
mod lifetime;
mod link;
mod loads;
mod node_health;
mod peers;
mod probes;
mod registry;
mod worker;

use std::sync::Arc;

pub(crate) use lifetime::Lifetime;
use node_health::HealthReports;
pub use node_health::NodeHealth;
use peers::Peers;
use probes::Probes;
pub use registry::LoadsUnknown;
use registry::Registry;
use starling_conversation_store::ConversationStore;
use starling_fanout::{Fanout, LinkStatus};
use starling_model::TenantName;
use starling_session_store::{NodeRecord, SessionStore};
use tokio::runtime::Handle;
use tokio::time::Instant;
pub use worker::{Worker, WorkerParts};

use crate::essential;
use crate::node_message::NodeMessage;
use crate::publisher::Publisher;

/// This node's view of the other nodes, and its own lease.
pub(crate) struct Neighbours {
    /// The name under which this node's lease is kept: see [`crate::HubConfig::lease`].
    node: Arc<str>,
    /// Keeps the leases.
    store: Arc<dyn SessionStore>,
    /// Carries the probes. It is reconnected when they don't come back.
    fanout: Arc<dyn Fanout>,
    /// Carries the reports of which nodes hear the others, for deaf nodes.
    conversations: Arc<dyn ConversationStore>,
    publisher: Arc<Publisher>,
    /// Runs a beat to its end when its caller has stopped waiting.
    runtime: Handle,
    /// The nodes with a lease.
    registry: Registry,
    /// Which of these nodes are heard.
    peers: Peers,
    /// The probes that show whether this node hears what is published.
    probes: Probes,
    /// Whether this node serves as well as the others while it is deaf.
    health_reports: HealthReports,
    /// Held while the lease is renewed or ended.
    lease: tokio::sync::Mutex<()>,
    /// Ends when this node leaves the cluster.
    lifetime: Lifetime,
}

/// The part of a node that fills its record and acts on changes of the other nodes.
pub(crate) trait LocalNode: Send + Sync + 'static {
    /// Returns this node's record for the other nodes.
    fn record(&self) -> NodeRecord;

    /// Called when the leases of these nodes have expired.
    fn hear_died(&self, nodes: &[String]);

    /// Called when this node's lease has been renewed. `is_lost`: the session store had lost what this node wrote there.
    fn lease_renewed(&self, is_lost: bool) -> impl Future<Output = ()> + Send;
}

impl Neighbours {
    /// Begins without knowing another node.
    pub fn new(
        node: Arc<str>,
        store: Arc<dyn SessionStore>,
        fanout: Arc<dyn Fanout>,
        conversations: Arc<dyn ConversationStore>,
        publisher: Arc<Publisher>,
        runtime: Handle,
    ) -> Arc<Neighbours> {
        Arc::new(Neighbours {
            node,
            store,
            fanout,
            conversations,
            publisher,
            runtime,
            registry: Registry::default(),
            peers: Peers::default(),
            probes: Probes::default(),
            health_reports: HealthReports::default(),
            lease: tokio::sync::Mutex::default(),
            lifetime: Lifetime::default(),
        })
    }

    /// Gets this node its lease, learns which nodes live, and starts the loops that keep both up to date. The fan-out must have been
    /// started.
    pub async fn start(self: &Arc<Self>, local: Arc<impl LocalNode>) {
        let runtime = &self.runtime;
        self.beat(&*local).await;
        essential::spawn(runtime, "beat", self.clone().beat_forever(local));
        essential::spawn(runtime, "say_here", self.clone().say_here_forever());
        if self.publisher.is_clustered() {
            essential::spawn(runtime, "tend_link", self.clone().tend_link_forever());
            essential::spawn(runtime, "compare_links", self.clone().compare_links_forever());
        }
    }

    /// Whether this node hears publications now. `true` if there are no other nodes.
    pub fn hears(&self) -> bool {
        let is_up = |link: LinkStatus| link.connected && link.subscribed;
        self.fanout.link().is_none_or(is_up) && !self.probes.are_missed()
    }

    /// Whether the log may have messages that this node did not hear of: because it is deaf, or because another node may not have published
    /// them.
    pub fn may_miss_messages(&self) -> bool {
        !self.hears() || self.peers.may_have_unpublished(Instant::now())
    }

    /// Returns the state of the link to Redis. `None`: there is no link.
    pub fn link(&self) -> Option<LinkStatus> {
        self.fanout.link()
    }

    /// Returns the lifetime, with which this node's loops end.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// Returns the number of a tenant's connections on the other nodes, by their last beats.
    pub fn connections_of(&self, tenant: &TenantName) -> u64 {
        let others = self.registry.others(&self.node);
        others.iter().map(|record| record.tenants.get(tenant).copied().unwrap_or(0)).sum()
    }

    /// Returns the last records of the other nodes that take clients, except those that drain.
    pub fn serving(&self) -> Vec<NodeRecord> {
        let mut others = self.registry.others(&self.node);
        others.retain(|record| !record.draining && !record.worker_only);
        others
    }

    /// Handles a probe of this node that came back.
    pub fn hear_probe(&self, nonce: u64) {
        self.probes.hear(nonce);
    }

    /// Handles a node's message that it is there.
    pub fn hear_here(&self, node: &Arc<str>) {
        self.peers.hear(node, Instant::now());
        self.publisher.others().expect(node, Instant::now());
    }

    /// Handles a node's message that it leaves.
    pub fn hear_leaving(&self, node: &Arc<str>) {
        self.peers.leave(node, Instant::now());
        self.publisher.others().leave(node);
        if self.registry.remove(node) {
            changes::log_left(node);
        }
    }

    /// Handles a gap of the fan-out. `of_all`: all partitions are concerned.
    pub fn hear_gap(&self, of_all: bool) {
        self.probes.reset();
        self.publisher.others().doubt();
        if of_all {
            // Clients of the other nodes may have moved during the gap.
            self.registry.note_change();
        }
    }

    /// Publishes each second that this node is there, and what it has announced of its interest.
    async fn say_here_forever(self: Arc<Self>) {
        let mut interval = crate::clock::every_second();
        while self.lifetime.next_tick(&mut interval).await {
            self.publisher.publish_message(0, &NodeMessage::Here { node: self.node.clone() });
            self.publisher.announce_interest();
        }
    }
}

//! This node among the others: its lease, which nodes live, and whether they hear each other.
//!
//! Stands by itself, without sessions and conversations: a node that takes no clients has neighbours as well (see [`Worker`]).

mod changes;
mod lease;
mod lifetime;
mod link;
mod loads;
mod peers;
mod probes;
mod registry;
mod standing;
mod worker;

use std::sync::Arc;

pub(crate) use lifetime::Lifetime;
pub use loads::Unsure;
use peers::Peers;
use probes::Probes;
use registry::Registry;
pub use standing::Standing;
use standing::Standings;
use starling_conversation_store::ConversationStore;
use starling_fanout::{Fanout, LinkStatus};
use starling_model::TenantName;
use starling_session_store::{NodeRecord, SessionStore};
use tokio::runtime::Handle;
use tokio::time::Instant;
pub use worker::{Worker, WorkerParts};

use crate::node_message::NodeMessage;
use crate::publisher::Publisher;
use crate::vital::vital;

/// This node among the others.
pub(crate) struct Neighbours {
    /// What this node's lease is kept under: see [`crate::HubConfig::lease`].
    node: Arc<str>,
    /// Keeps the leases.
    store: Arc<dyn SessionStore>,
    /// Carries the probes, and is connected anew where it carries none.
    fanout: Arc<dyn Fanout>,
    /// Carries reports of who hears the others, for those who do not.
    conversations: Arc<dyn ConversationStore>,
    publisher: Arc<Publisher>,
    /// Where a beat goes on whose caller has stopped waiting.
    runtime: Handle,
    /// The nodes with a lease.
    registry: Registry,
    /// Which of them are heard.
    peers: Peers,
    /// Whether this node hears what is published.
    probes: Probes,
    /// Whether it serves as well as the others while it does not.
    standings: Standings,
    /// Held while the lease is renewed or ended.
    lease: tokio::sync::Mutex<()>,
    /// Ends when this node takes leave of the others.
    lifetime: Lifetime,
}

/// What the rest of a node says to the others, and does when they change.
pub(crate) trait LocalNode: Send + Sync + 'static {
    /// What this node says of itself.
    fn record(&self) -> NodeRecord;

    /// The leases of these nodes ran out.
    fn hear_died(&self, nodes: &[String]);

    /// This node's lease has been renewed. `is_lost`: the session store had lost what this node wrote there.
    fn lease_renewed(&self, is_lost: bool) -> impl Future<Output = ()> + Send;
}

impl Neighbours {
    /// Knows no other node yet.
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
            standings: Standings::default(),
            lease: tokio::sync::Mutex::default(),
            lifetime: Lifetime::default(),
        })
    }

    /// Gets this node its lease, learns which nodes live, and begins to keep both up to date. The fan-out has been started.
    pub async fn start(self: &Arc<Self>, local: Arc<impl LocalNode>) {
        self.beat(&*local).await;
        tokio::spawn(vital("beat", self.clone().beat_forever(local)));
        tokio::spawn(vital("say_here", self.clone().say_here_forever()));
        if self.publisher.is_clustered() {
            tokio::spawn(vital("tend_link", self.clone().tend_link_forever()));
            tokio::spawn(vital("compare_links", self.clone().compare_links_forever()));
        }
    }

    /// Whether publications can be heard now; `true` where there are no other nodes.
    pub fn hears(&self) -> bool {
        let is_up = |link: LinkStatus| link.connected && link.subscribed;
        self.fanout.link().is_none_or(is_up) && !self.probes.are_missed()
    }

    /// Whether the log may hold what this node has not been told: it does not hear the others, or one of them may not have told it all.
    pub fn may_lack(&self) -> bool {
        !self.hears() || self.peers.may_owe(Instant::now())
    }

    /// The state of the link to the broker; `None` where there is none.
    pub fn link(&self) -> Option<LinkStatus> {
        self.fanout.link()
    }

    /// Ends when this node takes leave of the others; its loops end with it.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// How many connections of a tenant the other nodes had when they last said so.
    pub fn connections_of(&self, tenant: &TenantName) -> u64 {
        let others = self.registry.others(&self.node);
        others.iter().map(|record| record.tenants.get(tenant).copied().unwrap_or(0)).sum()
    }

    /// What the other nodes that take clients said of themselves in their last beats, those that drain left out.
    pub fn serving(&self) -> Vec<NodeRecord> {
        let mut others = self.registry.others(&self.node);
        others.retain(|record| !record.draining && !record.worker_only);
        others
    }

    /// A probe of this node came back.
    pub fn hear_probe(&self, nonce: u64) {
        self.probes.hear(nonce);
    }

    /// A node said that it is there.
    pub fn hear_here(&self, node: &Arc<str>) {
        self.peers.hear(node, Instant::now());
    }

    /// A node said that it goes.
    pub fn hear_leaving(&self, node: &Arc<str>) {
        self.peers.leave(node, Instant::now());
        if self.registry.remove(node) {
            changes::log_left(node);
        }
    }

    /// The fan-out may have lost publications; `of_all`: those of all partitions.
    pub fn hear_gap(&self, of_all: bool) {
        self.probes.reset();
        if of_all {
            // While this node was away from the others, their clients may have moved.
            self.registry.unsettle();
        }
    }

    /// Says each second that this node is there.
    async fn say_here_forever(self: Arc<Self>) {
        let mut interval = crate::clock::every_second();
        while self.lifetime.goes_on(&mut interval).await {
            self.publisher.publish_message(0, &NodeMessage::Here { node: self.node.clone() });
        }
    }
}

//! Publications between nodes.
//!
//! A fan-out promises speed, not delivery. If it may have lost something it reports a [`Delivery::Gap`], and receivers that need every
//! message read the log. [`memory`] serves one node (or several nodes in one process, in tests). [`redis`] uses Redis pub/sub: of a single
//! server, with Sentinel, or sharded on a cluster.
//!
//! Publications travel in a fixed number of ordered *partitions* ([`PARTITIONS`]), all of which every node subscribes to. So a join costs
//! no SUBSCRIBE, and one PUBLISH carries publications of many conversations. All publications of one conversation or one topic take the
//! same partition and stay in order. A publication that concerns few nodes is sent to these alone ([`Destination::Nodes`]).

pub mod memory;
mod metrics;
mod model;
pub mod redis;

pub use model::*;

use async_trait::async_trait;
use starling_model::{TenantName, TopicName};

/// The number of partitions.
pub const PARTITIONS: u16 = 16;

/// The most publications in one command to the broker.
pub const BATCH_MAX: usize = 1024;

/// The most bytes of publications in one command. A broker drops subscribers that have tens of megabytes to read.
pub const BATCH_BYTES_MAX: usize = 2 << 20;

/// The largest publication, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Returns the partition of a conversation or a topic. It is the same on all nodes, in all versions and after restarts (FNV-1a of both
/// names).
pub fn partition_of(tenant: &TenantName, name: &str) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in tenant.bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    ((hash ^ (hash >> 16)) % u32::from(PARTITIONS)) as u16
}

/// Receives the deliveries of a fan-out. It is called from the fan-out's own tasks and must not block.
pub trait Receiver: Send + Sync + 'static {
    /// Takes one delivery. The deliveries of one partition come in the order in which they were published.
    fn receive(&self, delivery: Delivery);
}

/// Publications between nodes.
#[async_trait]
pub trait Fanout: Send + Sync + 'static {
    /// Starts to receive. Returns when the broker has confirmed all subscriptions. If the broker can't be reached, returns at once and
    /// keeps trying in the background. Must be called once only.
    async fn start(&self, receiver: std::sync::Arc<dyn Receiver>) -> Result<(), Error>;

    /// Publishes to other nodes, in as few commands as possible: one for all publications to everyone, and one for each node that some
    /// publications are for (on a cluster, one for each partition of these). Only what exceeds [`BATCH_MAX`] or [`BATCH_BYTES_MAX`] needs
    /// further commands.
    ///
    /// Of one partition, each node receives what is for everyone in the order of publication, and likewise what is for some nodes. Within
    /// one batch the second comes first. Of several calls, the next begins when the one before has returned.
    async fn publish(&self, batch: &[Publication]) -> Result<(), Error>;

    /// Publishes to one node only, which may be this one.
    async fn publish_to(&self, node: &str, body: bytes::Bytes) -> Result<(), Error>;

    /// Numbers publications of topics, adds them to the topics' histories and delivers them to all nodes, including this one, as
    /// [`Delivery::Topic`] in the order of their offsets. Returns the positions in the order of the batch.
    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>>;

    /// Returns a topic's newest position, and the publications since another position if all of them are still kept.
    async fn topic_history(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        since: Option<&Position>,
    ) -> Result<TopicHistory, Error>;

    /// Publishes a probe to this node itself through the broker, to learn whether the link works. It comes back as [`Delivery::Probe`].
    async fn probe(&self, nonce: u64) -> Result<(), Error>;

    /// Closes the link and opens it again, because probes stay away. A [`Delivery::Gap`] follows.
    async fn reconnect(&self);

    /// Returns the state of the link to the broker; `None` for a fan-out inside the process.
    fn link(&self) -> Option<LinkStatus>;
}

//! Publications between nodes.
//!
//! A fan-out promises speed, not delivery: where it may have lost something it says so by [`Delivery::Gap`], and
//! whoever needs every message reads the log. [`memory`] serves one node (or several in one process, in
//! tests); [`redis`] carries publications over Redis pub/sub: classic, behind Sentinel, or sharded on a cluster.
//!
//! Publications travel in a fixed number of *lanes* ([`LANES`]) that every node is subscribed to, so that a join costs
//! no SUBSCRIBE, and many publications of many conversations go in one PUBLISH. What belongs together (one
//! conversation, one topic) always takes the same lane and so stays in order.

pub mod memory;
mod metrics;
mod model;
pub mod redis;

pub use model::*;

use async_trait::async_trait;
use starling_model::{TenantName, TopicName};

/// How many lanes carry the publications of all nodes.
pub const LANES: u16 = 16;

/// How many publications go in one command of the broker, at most.
pub const BATCH_MAX: usize = 1024;

/// How many bytes of publications go in one command, at most: a broker drops subscribers that have tens of megabytes
/// to read.
pub const BATCH_BYTES_MAX: usize = 2 << 20;

/// How large one publication may be, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The lane of a conversation or a topic: stable over nodes, versions and restarts (FNV-1a of both names).
pub fn lane_of(tenant: &TenantName, name: &str) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in tenant.bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    ((hash ^ (hash >> 16)) % u32::from(LANES)) as u16
}

/// Where a fan-out puts what arrives. Called from the fan-out's own tasks: must not block.
pub trait Receiver: Send + Sync + 'static {
    /// Takes one delivery. Deliveries of one lane come in the order in which they were published.
    fn receive(&self, delivery: Delivery);
}

/// Publications between nodes.
#[async_trait]
pub trait Fanout: Send + Sync + 'static {
    /// Begins to receive. Returns when all subscriptions stand (confirmed by the broker), or keeps on trying in the
    /// background and returns at once if the broker can't be reached. To be called once.
    async fn start(&self, receiver: std::sync::Arc<dyn Receiver>) -> Result<(), Error>;

    /// Publishes to all other nodes (not back to this one), in as few broker commands as possible.
    /// Every publication of one lane is in one command, so one lane is all or nothing; only what is beyond
    /// [`BATCH_MAX`] or [`BATCH_BYTES_MAX`] goes in further ones.
    async fn publish(&self, batch: &[Publication]) -> Result<(), Error>;

    /// Sends to one node only (also if that is this one).
    async fn publish_to(&self, node: &str, body: bytes::Bytes) -> Result<(), Error>;

    /// Numbers publications of topics, keeps them in the topics' histories and delivers them to all nodes,
    /// this one included, as [`Delivery::Topic`], in the order of their offsets. Answers in the order of the batch.
    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>>;

    /// Where a topic stands, and what came since a position, if it is all there.
    async fn topic_history(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        since: Option<&Position>,
    ) -> Result<TopicHistory, Error>;

    /// Publishes a probe to this very node through the broker, to learn whether the link is alive. It comes back as
    /// [`Delivery::Probe`].
    async fn probe(&self, nonce: u64) -> Result<(), Error>;

    /// Tears the link down and builds it anew, since the probe says that it is deaf. Ends in a [`Delivery::Gap`].
    async fn reconnect(&self);

    /// `None` for a fan-out inside the process; else whether the broker is connected and subscribed.
    fn link(&self) -> Option<LinkStatus>;
}

//! Publications to the other nodes. They are sent in batches, and lost ones are remembered.
//!
//! What concerns a conversation is sent only to the nodes that are interested in it ([`crate::interest`]). The choice is made when a batch is
//! published. A node whose interest becomes known later gets what was sent past it in the last seconds.
//!
//! If this node alone can't reach Redis, the other nodes see no gap. They would never learn of presence or membership changes that this
//! node failed to publish. So a node remembers on which partitions it lost a publication, and announces them when it can publish again.

mod heads;
mod outgoing;
mod partitions;
mod recent;
mod routing;

use std::sync::Arc;

use bytes::Bytes;
use heads::CommittedHeads;
pub(crate) use outgoing::Outgoing;
pub(crate) use partitions::PartitionSet;
use routing::{INTEREST_PARTITION, Routing};
use starling_fanout::{Destination, Error, Fanout, Publication};
use starling_model::Seq;
use starling_session_store::NodeRecord;
use starling_telemetry::TRACE_TARGET;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::essential;
use crate::interest::{InterestMessage, OtherNodes, OwnInterest, Told};
use crate::lane::{self, Bound, Lane};
use crate::metrics::METRICS;
use crate::node_message::{self, Loss, NodeMessage, traceparent_of};
use crate::room::Room;
use crate::trace::belong_to;

/// Limit of the publications that wait for Redis. Messages beyond it are found in the log.
const QUEUE: Bound = Bound { items: 65_536, bytes: 64 << 20 };
/// Limit of the publications in one call.
const BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };

/// Publications of this node to the others.
pub(crate) struct Publisher {
    fanout: Arc<dyn Fanout>,
    /// Whether there may be other nodes.
    clustered: bool,
    /// What waits for Redis.
    queue: Lane<Outgoing>,
    /// This node's own interest.
    interest: Arc<OwnInterest>,
    /// The interest of the other nodes.
    others: OtherNodes,
    routing: Routing,
    /// Partitions on which a publication was lost, which the other nodes have not been told yet.
    unannounced: PartitionSet,
    /// The heads that this node committed lately.
    heads: CommittedHeads,
}

impl Publisher {
    /// Creates the publisher of a node, whose work runs on `runtime`.
    pub fn new(node: Arc<str>, fanout: Arc<dyn Fanout>, runtime: &Handle) -> Arc<Publisher> {
        let (queue, end) = Lane::new(QUEUE);
        let clustered = fanout.link().is_some();
        let publisher = Arc::new(Publisher {
            clustered,
            fanout,
            queue,
            interest: Arc::new(OwnInterest::new(node, clustered)),
            others: OtherNodes::default(),
            routing: Routing::default(),
            unannounced: PartitionSet::default(),
            heads: CommittedHeads::default(),
        });
        lane::spawn(runtime, "publish", end, BATCH_MAX, &publisher, Publisher::publish_batch);
        if clustered {
            essential::spawn(runtime, "announce_interest", publisher.clone().announce_interest_forever());
        }
        publisher
    }

    /// Whether there may be other nodes.
    pub fn is_clustered(&self) -> bool {
        self.clustered
    }

    /// Returns this node's own interest.
    pub fn interest(&self) -> &Arc<OwnInterest> {
        &self.interest
    }

    /// Returns what the other nodes are interested in.
    pub fn others(&self) -> &OtherNodes {
        &self.others
    }

    /// Publishes to the other nodes. If the queue is full the publication is lost, and the next beats tell the other nodes what they missed.
    pub fn publish(&self, outgoing: Outgoing) {
        let Err(outgoing) = self.queue.push(outgoing) else { return };
        let heads_are_known = self.heads.has_room();
        match outgoing {
            Outgoing::To(Publication { partition, body, .. }) => {
                self.note_lost(partition, &body, heads_are_known);
            }
            Outgoing::About { key, body, .. } => self.note_lost(key.partition(), &body, heads_are_known),
            Outgoing::Heads { partition, .. } => self.unannounced.insert(partition),
            Outgoing::Missed { rooms, .. } => {
                rooms.partitions().for_each(|partition| self.unannounced.insert(partition));
            }
            // The changes wait for the next beat, and the other node asks again.
            Outgoing::OwnInterest { .. } | Outgoing::OwnSet { .. } => return,
        }
        METRICS.publications_dropped.increment(1);
    }

    /// Publishes a message to all other nodes, if there may be some.
    pub fn publish_message(&self, partition: u16, message: &NodeMessage) {
        if self.clustered {
            self.publish(Outgoing::everyone(partition, message));
        }
    }

    /// Publishes a message to the nodes that are interested in a room, if there may be some.
    pub fn publish_about(&self, room: &Room, message: &NodeMessage) {
        if self.clustered {
            self.publish(Outgoing::about(room, message));
        }
    }

    /// Publishes a committed message to the nodes that are interested in its room, and announces its seq with the next beats. Must be called
    /// only if there may be other nodes.
    pub fn publish_committed(&self, room: &Arc<Room>, seq: Seq, body: Bytes) {
        self.heads.note(room, seq);
        // Nodes whose interest becomes known later are told the head.
        self.publish(Outgoing::About { key: room.interest, body, is_kept: false });
    }

    /// Remembers the seq of a message that was committed. It is announced with the next beats.
    pub fn note_commit(&self, room: &Arc<Room>, seq: Seq) {
        if self.clustered {
            self.heads.note(room, seq);
        }
    }

    /// Publishes the head of a room to the nodes that are interested in it, if there may be some.
    pub fn publish_head(&self, room: &Room, seq: Seq) {
        if self.clustered {
            let heads = vec![(room.interest, room.head_at(seq))];
            self.publish(Outgoing::Heads { partition: room.partition, heads });
        }
    }

    /// Publishes a message without waiting in the queue. Returns an error if Redis did not accept it.
    pub async fn publish_now(&self, partition: u16, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish(&[Publication::to_everyone(partition, message.encode())]).await
    }

    /// Sends a message to one node. Returns an error if Redis did not accept it.
    pub async fn send_to(&self, node: &str, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish_to(node, message.encode()).await
    }

    /// Handles another node's message about its interest.
    pub fn hear_interest(&self, message: InterestMessage) {
        let node = message.node.clone();
        if message.told == Told::Question {
            return self.publish(Outgoing::OwnSet { to: node });
        }
        let learned = self.others.hear(message, Instant::now());
        if !learned.new.is_empty() {
            // Whatever was published before this moment may have been sent past the node.
            self.publish(Outgoing::Missed { node: node.clone(), rooms: learned.new });
        }
        if learned.ask {
            let (partition, body) = (INTEREST_PARTITION, self.interest.question().encode());
            let to = Destination::Nodes([node].into());
            self.publish(Outgoing::To(Publication { partition, to, body }));
        }
    }

    /// Learns which nodes have a lease. `own`: this node.
    pub fn list_nodes(&self, living: &[NodeRecord], own: &str) {
        self.others.list(living, own, Instant::now());
    }

    /// Announces what has changed of this node's interest, and what has been announced in all.
    pub fn announce_interest(&self) {
        if self.clustered {
            self.publish(Outgoing::OwnInterest { with_beat: true });
        }
    }

    /// Announces the heads that this node committed lately, and the partitions on which a publication was lost. `node`: this node.
    /// `is_heard`: whether the others can hear it now; if not, everything is kept and announced again.
    pub fn announce(&self, node: &Arc<str>, is_heard: bool) {
        let is_certain = self.others.is_certain(Instant::now());
        for (partition, heads) in self.heads.to_announce(is_heard, is_certain) {
            self.publish(Outgoing::Heads { partition, heads });
        }
        if is_heard && is_certain {
            self.routing.age();
        }
        if is_heard {
            for partition in self.unannounced.take() {
                self.publish_message(partition, &NodeMessage::Missed { node: node.clone() });
            }
        }
    }

    /// Whether no publication waits for Redis.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// Returns the number of publications that wait for Redis.
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }

    /// Announces changes of this node's interest as soon as there are some. What changes while a batch is under way is announced with
    /// the next one.
    async fn announce_interest_forever(self: Arc<Self>) {
        loop {
            self.interest.changed().await;
            self.publish(Outgoing::OwnInterest { with_beat: false });
        }
    }

    async fn publish_batch(self: Arc<Self>, batch: Vec<Outgoing>) {
        METRICS.publish_batch.record(batch.len() as f64);
        let span = tracing::info_span!(target: TRACE_TARGET, "publish", publications = batch.len());
        let traceparents = batch.iter().filter_map(|outgoing| traceparent_of(outgoing.body()?));
        belong_to(&span, batch.len(), traceparents);
        let batch = self.routing.route(batch, &self.others, &self.interest, &self.heads, &self.unannounced);
        if let Err(error) = self.fanout.publish(&batch).instrument(span).await {
            METRICS.publications_dropped.increment(batch.len() as u64);
            let heads_are_known = self.heads.has_room();
            for Publication { partition, body, .. } in &batch {
                self.note_lost(*partition, body, heads_are_known);
            }
            tracing::debug!(%error, lost = batch.len(), "publications were lost; other nodes will be told to check the log");
        }
    }

    /// Remembers the partition of a lost publication. `heads_are_known`: the heads of the beats lead the others to a lost message.
    fn note_lost(&self, partition: u16, body: &Bytes, heads_are_known: bool) {
        match node_message::loss_of(body) {
            Loss::Harmless => {}
            Loss::Message if heads_are_known => {}
            Loss::OfAll => self.unannounced.insert_all(),
            Loss::Message | Loss::OfPartition => self.unannounced.insert(partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_fanout::memory::MemoryFanout;
    use starling_fanout::{PARTITIONS, TopicSettings};
    use starling_model::ConversationId;

    use super::*;
    use crate::node_message::{MessageHeader, encode_message};

    #[tokio::test]
    async fn what_the_heads_do_not_find_is_remembered_by_partition_until_it_is_announced() {
        let fanout = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let publisher = Publisher::new("a".into(), fanout, &Handle::current());
        let lose = |partition, body, heads_are_known| {
            publisher.note_lost(partition, &body, heads_are_known);
            publisher.unannounced.take()
        };
        let header = MessageHeader {
            conversation: ConversationId::new(1),
            tenant: &"t".into(),
            name: &"c".into(),
            seq: Seq::new(1),
            log: None,
            committed_at_us: 0,
            traceparent: None,
        };
        let message = encode_message(&header, b"{}");
        assert_eq!(lose(3, message.clone(), true), [0; 0]);
        assert_eq!(lose(3, message, false), [3]);
        assert_eq!(lose(3, NodeMessage::Here { node: "n".into() }.encode(), true), [0; 0]);
        assert_eq!(lose(15, NodeMessage::Missed { node: "n".into() }.encode(), true), [15]);
        let restored = lose(0, NodeMessage::Restored { node: "n".into() }.encode(), true);
        assert_eq!(restored.len(), usize::from(PARTITIONS), "it concerns conversations of all partitions");
    }
}

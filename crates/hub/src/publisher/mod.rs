//! Publications to the other nodes. They are sent in batches, and lost ones are remembered.
//!
//! If this node alone can't reach Redis, the other nodes see no gap. They would never learn of presence or membership changes that this
//! node failed to publish. So a node remembers on which partitions it lost a publication, and announces them when it can publish again.

mod heads;
mod partitions;

use std::sync::Arc;

use heads::CommittedHeads;
pub(crate) use partitions::PartitionSet;
use starling_fanout::{Error, Fanout, Publication};
use starling_model::Seq;
use starling_telemetry::TRACE_TARGET;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::lane::{self, Bound, Lane, Weigh};
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
    /// Publications that wait for Redis.
    queue: Lane<Publication>,
    /// Partitions on which a publication was lost, which the other nodes have not been told yet.
    unannounced: PartitionSet,
    /// The heads that this node committed lately.
    heads: CommittedHeads,
}

impl Weigh for Publication {
    fn bytes(&self) -> usize {
        size_of::<Publication>() + self.body.len()
    }
}

impl Publisher {
    /// Creates a publisher whose work runs on `runtime`.
    pub fn new(fanout: Arc<dyn Fanout>, runtime: &Handle) -> Arc<Publisher> {
        let (queue, end) = Lane::new(QUEUE);
        let publisher = Arc::new(Publisher {
            clustered: fanout.link().is_some(),
            fanout,
            queue,
            unannounced: PartitionSet::default(),
            heads: CommittedHeads::default(),
        });
        lane::spawn(runtime, "publish", end, BATCH_MAX, &publisher, Publisher::publish_batch);
        publisher
    }

    /// Whether there may be other nodes.
    pub fn is_clustered(&self) -> bool {
        self.clustered
    }

    /// Publishes to the other nodes. If the queue is full the publication is lost, and the next beats tell the other nodes what they missed.
    pub fn publish(&self, publication: Publication) {
        if let Err(publication) = self.queue.push(publication) {
            METRICS.publications_dropped.increment(1);
            self.note_lost(&publication, self.heads.has_room());
        }
    }

    /// Publishes a message to the other nodes, if there may be some.
    pub fn publish_message(&self, partition: u16, message: &NodeMessage) {
        if self.clustered {
            self.publish(Publication { partition, body: message.encode() });
        }
    }

    /// Publishes a message without waiting in the queue. Returns an error if Redis did not accept it.
    pub async fn publish_now(&self, partition: u16, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish(&[Publication { partition, body: message.encode() }]).await
    }

    /// Sends a message to one node. Returns an error if Redis did not accept it.
    pub async fn send_to(&self, node: &str, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish_to(node, message.encode()).await
    }

    /// Remembers the seq of a message that this node committed. It is announced with the next beats.
    pub fn note_commit(&self, room: &Arc<Room>, seq: Seq) {
        if self.clustered {
            self.heads.note(room, seq);
        }
    }

    /// Announces the heads that this node committed lately, and the partitions on which a publication was lost. `node`: this node.
    /// `is_heard`: whether the others can hear it now; if not, everything is kept and announced again.
    pub fn announce(&self, node: &Arc<str>, is_heard: bool) {
        for (partition, heads) in self.heads.to_announce(!is_heard) {
            self.publish_message(partition, &NodeMessage::Heads(heads));
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

    async fn publish_batch(self: Arc<Self>, batch: Vec<Publication>) {
        METRICS.publish_batch.record(batch.len() as f64);
        let span = tracing::info_span!(target: TRACE_TARGET, "publish", publications = batch.len());
        let traceparents = batch.iter().filter_map(|publication| traceparent_of(&publication.body));
        belong_to(&span, batch.len(), traceparents);
        if let Err(error) = self.fanout.publish(&batch).instrument(span).await {
            METRICS.publications_dropped.increment(batch.len() as u64);
            let heads_are_known = self.heads.has_room();
            batch.iter().for_each(|publication| self.note_lost(publication, heads_are_known));
            tracing::debug!(%error, lost = batch.len(), "publications were lost; other nodes will be told to check the log");
        }
    }

    /// Remembers the partition of a lost publication. `heads_are_known`: the heads of the beats lead the others to a lost message.
    fn note_lost(&self, publication: &Publication, heads_are_known: bool) {
        match node_message::loss_of(&publication.body) {
            Loss::Harmless => {}
            Loss::Message if heads_are_known => {}
            Loss::OfAll => self.unannounced.insert_all(),
            Loss::Message | Loss::OfPartition => self.unannounced.insert(publication.partition),
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
        let publisher = Publisher::new(fanout, &Handle::current());
        let lose = |partition, body, heads_are_known| {
            publisher.note_lost(&Publication { partition, body }, heads_are_known);
            publisher.unannounced.take()
        };
        let header = MessageHeader {
            conversation: ConversationId::new(1),
            tenant: &"t".into(),
            name: &"c".into(),
            seq: Seq::new(1),
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

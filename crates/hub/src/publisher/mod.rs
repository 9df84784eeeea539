//! Publications to the other nodes: sent in batches, and remembered where they were lost.
//!
//! A broker that is away for one node alone leaves the others without a gap of their own: they would never learn that somebody came, went
//! or is no member any more. So a node remembers on which partitions it lost something, and says so when it can publish again.

mod heads;
mod partitions;

use std::sync::Arc;

use heads::CommittedHeads;
pub(crate) use partitions::PartitionSet;
use starling_fanout::{Error, Fanout, Publication};
use starling_telemetry::TRACE_TARGET;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::lane::{self, Bound, Lane, Weigh};
use crate::metrics::METRICS;
use crate::node_message::{self, Loss, NodeMessage, traceparent_of};
use crate::room::Room;
use crate::trace::belong_to;

/// How many publications may wait for the broker. What does not fit is found in the log.
const QUEUE: Bound = Bound { items: 65_536, bytes: 64 << 20 };
/// How many publications go in one call.
const BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };

/// Publications of this node to the others.
pub(crate) struct Publisher {
    fanout: Arc<dyn Fanout>,
    /// Whether there may be other nodes.
    clustered: bool,
    /// Publications that wait for the broker.
    queue: Lane<Publication>,
    /// Channels on which a publication was lost and the other nodes have not been told so.
    unannounced: PartitionSet,
    /// The newest numbers that this node committed lately.
    heads: CommittedHeads,
}

impl Weigh for Publication {
    fn bytes(&self) -> usize {
        size_of::<Publication>() + self.body.len()
    }
}

impl Publisher {
    /// Begins to work on publications, on `runtime`.
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

    /// Publishes to the other nodes. What does not fit the queue is lost, and found by them through the beats' heads.
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

    /// Publishes a message without waiting behind others, and says whether the broker took it.
    pub async fn publish_now(&self, partition: u16, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish(&[Publication { partition, body: message.encode() }]).await
    }

    /// Sends a message to one node alone, and says whether the broker took it.
    pub async fn send_to(&self, node: &str, message: &NodeMessage) -> Result<(), Error> {
        self.fanout.publish_to(node, message.encode()).await
    }

    /// Remembers that this node committed a number, to be announced with the next beats.
    pub fn note_commit(&self, room: &Arc<Room>, seq: u64) {
        if self.clustered {
            self.heads.note(room, seq);
        }
    }

    /// Announces the numbers that this node committed lately, and the partitions on which something was lost. `node` is this one;
    /// `is_heard` says whether the others can hear it now: if not, everything is kept to be announced again.
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

    /// Whether nothing waits for the broker.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// How many publications wait for the broker.
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

    /// Remembers the partition of a publication that was lost. `heads_are_known`: the beats' heads lead the others to the message.
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

    use super::*;
    use crate::node_message::encode_message;

    #[tokio::test]
    async fn what_the_heads_do_not_find_is_remembered_by_partition_until_it_is_announced() {
        let fanout = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let publisher = Publisher::new(fanout, &Handle::current());
        let lose = |partition, body, heads_are_known| {
            publisher.note_lost(&Publication { partition, body }, heads_are_known);
            publisher.unannounced.take()
        };
        let message = encode_message(1, &"t".into(), &"c".into(), 1, 0, None, b"{}");
        assert_eq!(lose(3, message.clone(), true), [0; 0]);
        assert_eq!(lose(3, message, false), [3]);
        assert_eq!(lose(3, NodeMessage::Here { node: "n".into() }.encode(), true), [0; 0]);
        assert_eq!(lose(15, NodeMessage::Missed { node: "n".into() }.encode(), true), [15]);
        let restored = lose(0, NodeMessage::Restored { node: "n".into() }.encode(), true);
        assert_eq!(restored.len(), usize::from(PARTITIONS), "it concerns conversations of all partitions");
    }
}

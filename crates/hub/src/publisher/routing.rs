//! Makes the publications of a batch: chooses the nodes that each is for, and adds what this node tells of its own interest.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use starling_fanout::{Destination, Publication};
use tokio::time::Instant;

use super::heads::CommittedHeads;
use super::outgoing::Outgoing;
use super::partitions::PartitionSet;
use super::recent::Recent;
use crate::Map;
use crate::interest::{InterestKey, NewRooms, OtherNodes, OwnInterest, Router};
use crate::node_message::{Head, NodeMessage};

/// The partition of what nodes tell of their interest.
pub(super) const INTEREST_PARTITION: u16 = 0;
/// Most heads in one publication. Each takes at most some 350 bytes.
const HEADS_PER_PUBLICATION: usize = 1_000;

/// Makes publications of what waits to be published.
#[derive(Default)]
pub(super) struct Routing {
    recent: Mutex<Recent>,
}

/// The batch that is being made.
struct Making<'a> {
    router: Router<'a>,
    publications: Vec<Publication>,
    /// Partitions of which a node may lack something that is not remembered.
    lacking: &'a PartitionSet,
}

impl Routing {
    /// Makes the publications of a batch. In one batch all publications about a conversation are for the same nodes, so that they stay in
    /// order.
    pub fn route(
        &self,
        batch: Vec<Outgoing>,
        others: &OtherNodes,
        own: &OwnInterest,
        heads: &CommittedHeads,
        lacking: &PartitionSet,
    ) -> Vec<Publication> {
        let mut recent = self.recent.lock();
        let publications = Vec::with_capacity(batch.len());
        let mut making = Making { router: others.router(Instant::now()), publications, lacking };
        for outgoing in batch {
            match outgoing {
                Outgoing::To(publication) => making.publications.push(publication),
                Outgoing::About { key, body, is_kept } => {
                    let to = making.router.route(key);
                    // After something that was sent past a node, everything is kept, so that the node gets the newest last.
                    if is_kept && (to != Destination::Everyone || recent.has(key)) {
                        recent.note(key, body.clone());
                    }
                    making.add(key.partition(), to, body);
                }
                Outgoing::Heads { partition, heads } => making.heads(partition, heads),
                Outgoing::OwnInterest { with_beat } => {
                    making.own_interest(own);
                    if with_beat {
                        making.add(INTEREST_PARTITION, Destination::Everyone, own.beat().encode());
                    }
                }
                Outgoing::OwnSet { to } => {
                    making.own_interest(own);
                    for message in own.set() {
                        making.add(INTEREST_PARTITION, only(&to), message.encode());
                    }
                }
                Outgoing::Missed { node, rooms } => making.missed(&recent, heads, &node, &rooms),
            }
        }
        making.publications
    }

    /// Forgets what was sent long ago.
    pub fn age(&self) {
        self.recent.lock().age();
    }
}

impl Making<'_> {
    fn add(&mut self, partition: u16, to: Destination, body: Bytes) {
        if !matches!(&to, Destination::Nodes(nodes) if nodes.is_empty()) {
            self.publications.push(Publication { partition, to, body });
        }
    }

    fn own_interest(&mut self, own: &OwnInterest) {
        for message in own.announce() {
            self.add(INTEREST_PARTITION, Destination::Everyone, message.encode());
        }
    }

    /// Adds heads, together for those nodes that want the same ones.
    fn heads(&mut self, partition: u16, heads: Vec<(InterestKey, Head)>) {
        let (mut common, mut direct): (_, Map<Arc<str>, Vec<Head>>) = (Vec::new(), Map::default());
        for (key, head) in heads {
            match self.router.route(key) {
                Destination::Everyone => common.push(head),
                Destination::Nodes(nodes) => {
                    for node in nodes.iter() {
                        direct.entry(node.clone()).or_default().push(head.clone());
                    }
                }
            }
        }
        for (node, heads) in direct {
            self.add_heads(partition, &only(&node), heads);
        }
        self.add_heads(partition, &Destination::Everyone, common);
    }

    fn add_heads(&mut self, partition: u16, to: &Destination, mut heads: Vec<Head>) {
        while !heads.is_empty() {
            let rest = heads.split_off(heads.len().min(HEADS_PER_PUBLICATION));
            self.add(partition, to.clone(), NodeMessage::Heads(std::mem::replace(&mut heads, rest)).encode());
        }
    }

    /// Adds what was sent past a node about these conversations. Of messages it gets the heads, and reads them from the log.
    fn missed(&mut self, recent: &Recent, heads: &CommittedHeads, node: &Arc<str>, rooms: &NewRooms) {
        for (key, body) in recent.about(rooms, self.lacking) {
            self.add(key.partition(), only(node), body);
        }
        match heads.about(rooms) {
            Some(heads) => {
                for (partition, heads) in heads {
                    self.add_heads(partition, &only(node), heads);
                }
            }
            None => rooms.partitions().for_each(|partition| self.lacking.insert(partition)),
        }
    }
}

fn only(node: &Arc<str>) -> Destination {
    Destination::Nodes([node.clone()].into())
}

#[cfg(test)]
mod tests {
    use starling_session_store::NodeRecord;

    use super::*;
    use crate::interest::InterestMessage;

    const KEY: InterestKey = InterestKey::from_bits(7 << 60);

    /// A publisher's parts, and three other nodes.
    struct Cluster {
        routing: Routing,
        others: OtherNodes,
        own: OwnInterest,
        heads: CommittedHeads,
        lacking: PartitionSet,
        nodes: [OwnInterest; 3],
    }

    impl Cluster {
        fn new() -> Cluster {
            let cluster = Cluster {
                routing: Routing::default(),
                others: OtherNodes::default(),
                own: OwnInterest::new("own".into(), true),
                heads: CommittedHeads::default(),
                lacking: PartitionSet::default(),
                nodes: ["a", "b", "c"].map(|node| OwnInterest::new(node.into(), true)),
            };
            let record = |node: &str| NodeRecord { node: node.to_owned(), ..NodeRecord::default() };
            cluster.others.list(&["a", "b", "c"].map(record), "own", Instant::now());
            cluster.nodes.iter().for_each(|node| _ = cluster.hear(vec![node.beat()]));
            cluster
        }

        /// Hears a node's messages. Returns what it has missed.
        fn hear(&self, messages: Vec<InterestMessage>) -> Vec<Outgoing> {
            let hear = |message: InterestMessage| {
                let node = message.node.clone();
                Outgoing::Missed { node, rooms: self.others.hear(message, Instant::now()).new }
            };
            messages.into_iter().map(hear).collect()
        }

        /// Lets a node become interested.
        fn interest(&self, node: usize) -> Vec<Outgoing> {
            self.nodes[node].add(KEY);
            self.hear(self.nodes[node].announce())
        }

        /// What is published of a batch: the nodes, or `*`, and the contents.
        fn route(&self, batch: Vec<Outgoing>) -> Vec<(String, String)> {
            let route = self.routing.route(batch, &self.others, &self.own, &self.heads, &self.lacking);
            let to = |to: &Destination| match to {
                Destination::Everyone => "*".to_owned(),
                Destination::Nodes(nodes) => nodes.join(","),
            };
            let text = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
            route.iter().map(|publication| (to(&publication.to), text(&publication.body))).collect()
        }
    }

    fn about(body: &'static str, is_kept: bool) -> Outgoing {
        Outgoing::About { key: KEY, body: body.into(), is_kept }
    }

    fn published(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(to, body)| ((*to).to_owned(), (*body).to_owned())).collect()
    }

    #[test]
    fn a_node_gets_what_was_sent_past_it_before_it_was_interested() {
        let cluster = Cluster::new();
        assert_eq!(cluster.route(vec![about("first", true), about("typing", false)]), []);
        let missed = cluster.interest(0);
        assert_eq!(cluster.route(missed), published(&[("a", "first")]));
        assert_eq!(cluster.route(vec![about("second", true)]), published(&[("a", "second")]));
        let missed = cluster.interest(1);
        assert_eq!(cluster.route(missed), published(&[("b", "first"), ("b", "second")]));
        assert!(cluster.lacking.take().is_empty());
    }

    #[test]
    fn the_newest_comes_last_even_if_everyone_got_it() {
        let cluster = Cluster::new();
        let first = cluster.interest(0);
        cluster.route(first);
        assert_eq!(cluster.route(vec![about("old", true)]), published(&[("a", "old")]));
        // A gap: for a moment everyone counts as interested.
        cluster.others.doubt();
        assert_eq!(cluster.route(vec![about("new", true)]), published(&[("*", "new")]));
        cluster.nodes.iter().for_each(|node| _ = cluster.hear(vec![node.beat()]));
        let missed = cluster.interest(1);
        assert_eq!(cluster.route(missed), published(&[("b", "old"), ("b", "new")]));
    }

    #[test]
    fn the_own_interest_is_announced_to_everyone_and_told_to_a_node_that_asks() {
        let cluster = Cluster::new();
        cluster.own.add(KEY);
        let to = |batch| -> Vec<String> { cluster.route(batch).into_iter().map(|(to, _)| to).collect() };
        assert_eq!(to(vec![Outgoing::OwnInterest { with_beat: false }]), ["*"]);
        assert_eq!(to(vec![Outgoing::OwnInterest { with_beat: false }]), [""; 0], "it was announced");
        assert_eq!(to(vec![Outgoing::OwnInterest { with_beat: true }]), ["*"], "the beat alone");
        assert_eq!(to(vec![Outgoing::OwnSet { to: "b".into() }]), ["b"]);
    }
}

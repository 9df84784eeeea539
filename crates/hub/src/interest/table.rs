//! The table of what the other nodes have told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::learned::{Learned, NewRooms};
use super::nodes::{NodeId, NodeSet};
use super::{Announced, InterestKey, PAIRS_MAX, ROOMS_MAX, Told};
use crate::{Map, Set};

/// A node that was not heard for this long counts as interested in everything, since it says each second what it has announced.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);
/// Most nodes in the table. While there are more, everything goes to everyone.
const NODES_MAX: usize = 4_096;
/// A node without a lease is forgotten when it was not heard for this long.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// The table of the other nodes and of the conversations that they have told.
#[derive(Default)]
pub(super) struct Table {
    /// Whether the session store has listed the nodes.
    is_listed: bool,
    /// Whether a node did not fit.
    is_full: bool,
    ids: Map<Arc<str>, NodeId>,
    nodes: Vec<Option<Node>>,
    /// The nodes that are interested in each conversation.
    rooms: Map<InterestKey, NodeSet>,
    /// The number of nodes in all sets of `rooms`.
    pairs: usize,
}

/// Another node.
struct Node {
    name: Arc<str>,
    knowledge: Knowledge,
    heard_at: Instant,
    /// The version of what is known.
    version: u64,
    /// The summary of what is known.
    known: Announced,
    /// The pieces of its set that have come, while it is being sent.
    coming: Option<Coming>,
}

/// What is known of a node's interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// It has a lease and has told nothing. It may be of a version that understands only what goes to everyone.
    Nothing,
    /// The table has its conversations.
    Rooms,
    /// The table may lack some of its conversations.
    Doubtful,
    /// It is interested in everything.
    Everything,
}

/// The set of a node, while its pieces come.
struct Coming {
    version: u64,
    /// The piece that comes next.
    piece: u32,
    keys: Vec<InterestKey>,
}

/// What is sent to which nodes now, whatever it is about.
pub(super) struct Always {
    /// Whether everything goes to everyone.
    pub everyone: bool,
    /// The nodes that get everything.
    pub nodes: Vec<NodeId>,
    /// The number of all nodes.
    pub count: usize,
}

impl Table {
    /// Learns which nodes have a lease and take clients.
    pub fn list(&mut self, living: &Set<&str>, now: Instant) {
        self.is_listed = true;
        let gone = |node: &Node| {
            let is_silent = now.duration_since(node.heard_at) >= GONE_AFTER;
            !living.contains(&*node.name) && (is_silent || node.knowledge == Knowledge::Nothing)
        };
        let gone: Set<NodeId> = self.all().filter(|(_, node)| gone(node)).map(|(id, _)| id).collect();
        self.remove(&gone);
        self.is_full = false;
        for name in living {
            if !self.ids.contains_key(*name) {
                self.insert(&(*name).into(), now);
            }
        }
    }

    /// Notes that a node is there.
    pub fn expect(&mut self, node: &Arc<str>, now: Instant) {
        if !self.ids.contains_key(node) {
            self.insert(node, now);
        }
    }

    /// Learns what a node has told.
    pub fn hear(&mut self, node: &Arc<str>, version: u64, told: Told, now: Instant) -> Learned {
        let known = self.ids.get(node).copied();
        match known.or_else(|| self.insert(node, now)) {
            Some(id) => self.hear_known(id, version, told, now),
            None => Learned::default(),
        }
    }

    /// Forgets a node.
    pub fn leave(&mut self, node: &str) {
        if let Some(id) = self.ids.get(node).copied() {
            self.remove(&[id].into_iter().collect());
        }
    }

    /// Doubts everything that is known.
    pub fn doubt(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            if node.knowledge == Knowledge::Rooms {
                node.knowledge = Knowledge::Doubtful;
            }
        }
    }

    /// Returns what holds for every publication now.
    pub fn always(&self, now: Instant) -> Always {
        let everyone = !self.is_listed || self.is_full;
        let mut always = Always { everyone, nodes: Vec::new(), count: 0 };
        for (id, node) in self.all() {
            always.count += 1;
            always.everyone |= node.knowledge == Knowledge::Nothing;
            if node.knowledge != Knowledge::Rooms || node.is_silent(now) {
                always.nodes.push(id);
            }
        }
        always
    }

    /// Returns the nodes that are interested in a conversation, as far as they have told.
    pub fn interested(&self, key: InterestKey) -> &[NodeId] {
        self.rooms.get(&key).map_or(&[][..], NodeSet::ids)
    }

    /// Returns the name of a node.
    pub fn name(&self, id: NodeId) -> Option<Arc<str>> {
        Some(self.nodes.get(usize::from(id))?.as_ref()?.name.clone())
    }

    /// Whether each node's interest is known, or nothing is sent past a node at all.
    pub fn is_certain(&self, now: Instant) -> bool {
        self.all().all(|(_, node)| node.knowledge != Knowledge::Doubtful && !node.is_silent(now))
    }

    /// Returns the number of pairs of a conversation and a node that are known, and the number of nodes of which not everything is known.
    pub fn sizes(&self, now: Instant) -> (usize, usize) {
        let is_uncertain = |node: &Node| {
            matches!(node.knowledge, Knowledge::Nothing | Knowledge::Doubtful) || node.is_silent(now)
        };
        (self.pairs, self.all().filter(|(_, node)| is_uncertain(node)).count())
    }

    fn all(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).zip(&self.nodes).filter_map(|(id, node)| Some((id, node.as_ref()?)))
    }

    /// Adds a node that has told nothing. Returns `None` if there is no place.
    fn insert(&mut self, name: &Arc<str>, now: Instant) -> Option<NodeId> {
        let place = self.nodes.iter().position(Option::is_none).unwrap_or(self.nodes.len());
        if place >= NODES_MAX {
            self.is_full = true;
            return None;
        }
        let id = NodeId::try_from(place).ok()?;
        if place == self.nodes.len() {
            self.nodes.push(None);
        }
        let (knowledge, version, known) = (Knowledge::Nothing, 0, Announced::default());
        self.nodes[place] =
            Some(Node { name: name.clone(), knowledge, heard_at: now, version, known, coming: None });
        self.ids.insert(name.clone(), id);
        Some(id)
    }

    /// Forgets nodes and everything that they have told.
    fn remove(&mut self, gone: &Set<NodeId>) {
        for id in gone {
            if let Some(node) = self.nodes.get_mut(usize::from(*id)).and_then(Option::take) {
                self.ids.remove(&node.name);
            }
        }
        if !gone.is_empty() {
            self.retain(|_, id| !gone.contains(&id));
        }
    }

    /// Keeps the pairs of a conversation and a node for which `keep` is true.
    fn retain(&mut self, keep: impl Fn(InterestKey, NodeId) -> bool) {
        let pairs = &mut self.pairs;
        self.rooms.retain(|key, nodes| {
            let gone: Vec<NodeId> = nodes.ids().iter().copied().filter(|id| !keep(*key, *id)).collect();
            gone.iter().for_each(|id| *pairs -= usize::from(nodes.remove(*id)));
            !nodes.ids().is_empty()
        });
    }

    fn hear_known(&mut self, id: NodeId, version: u64, told: Told, now: Instant) -> Learned {
        let Some(node) = self.nodes.get_mut(usize::from(id)).and_then(Option::as_mut) else {
            return Learned::default();
        };
        node.heard_at = now;
        if node.knowledge == Knowledge::Nothing {
            // Nothing was told yet, and the first change has version 1.
            node.knowledge = Knowledge::Rooms;
        }
        let fits = |announced: &Announced| {
            let of_others = self.pairs.saturating_sub(node.known.count as usize);
            announced.count as usize <= ROOMS_MAX && of_others + announced.count as usize <= PAIRS_MAX
        };
        match told {
            Told::Beat(announced) if announced.everything || !fits(&announced) => {
                let was_everything = node.knowledge == Knowledge::Everything;
                (node.knowledge, node.version, node.coming) = (Knowledge::Everything, version, None);
                node.known = Announced::default();
                if was_everything {
                    return Learned::default();
                }
                self.retain(|_, of| of != id);
                Learned { new: NewRooms::All, ask: false }
            }
            Told::Beat(announced) => {
                let is_as_known = version == node.version && announced == node.known;
                let is_rooms = matches!(node.knowledge, Knowledge::Rooms | Knowledge::Doubtful);
                if is_as_known && is_rooms {
                    node.knowledge = Knowledge::Rooms;
                } else if version >= node.version {
                    return node.doubt();
                }
                Learned::default()
            }
            Told::Change { added, removed } => {
                if version <= node.version || node.knowledge != Knowledge::Rooms {
                    // A repeat, or the whole set is about to come.
                    return Learned::default();
                }
                if version != node.version + 1 {
                    return node.doubt();
                }
                node.version = version;
                self.change(id, added, removed)
            }
            Told::Question => Learned::default(),
            Told::Set { piece, pieces, keys } => {
                if version < node.version || (version == node.version && node.knowledge == Knowledge::Rooms) {
                    return Learned::default();
                }
                let keys = node.collect(version, piece, pieces, keys);
                keys.map_or_else(Learned::default, |keys| self.replace(id, version, keys))
            }
        }
    }

    /// Applies a change of a node's interest.
    fn change(&mut self, id: NodeId, added: Vec<InterestKey>, removed: Vec<InterestKey>) -> Learned {
        let (mut sum, mut new) = (Announced::default(), Vec::new());
        for key in removed {
            let Some(nodes) = self.rooms.get_mut(&key) else { continue };
            if nodes.remove(id) {
                self.pairs -= 1;
                if nodes.ids().is_empty() {
                    self.rooms.remove(&key);
                }
                sum.checksum ^= key.bits();
                sum.count = sum.count.wrapping_sub(1);
            }
        }
        for key in added {
            if self.rooms.entry(key).or_default().insert(id) {
                self.pairs += 1;
                sum.checksum ^= key.bits();
                sum.count = sum.count.wrapping_add(1);
                new.push(key);
            }
        }
        let is_full = self.pairs > PAIRS_MAX;
        let Some(node) = self.nodes.get_mut(usize::from(id)).and_then(Option::as_mut) else {
            return Learned::default();
        };
        node.known.checksum ^= sum.checksum;
        node.known.count = node.known.count.wrapping_add(sum.count);
        if is_full || node.known.count as usize > ROOMS_MAX {
            return self.overflow(id);
        }
        Learned { new: NewRooms::Rooms(new), ask: false }
    }

    /// Replaces a node's interest by its whole set.
    fn replace(&mut self, id: NodeId, version: u64, keys: Vec<InterestKey>) -> Learned {
        let keys: Set<InterestKey> = keys.into_iter().collect();
        let gone: Vec<InterestKey> = self
            .rooms
            .iter()
            .filter(|(key, nodes)| !keys.contains(*key) && nodes.ids().contains(&id))
            .map(|(key, _)| *key)
            .collect();
        if let Some(node) = self.nodes.get_mut(usize::from(id)).and_then(Option::as_mut) {
            (node.version, node.knowledge) = (version, Knowledge::Rooms);
        }
        self.change(id, keys.into_iter().collect(), gone)
    }

    /// Counts a node whose conversations do not fit as interested in everything.
    fn overflow(&mut self, id: NodeId) -> Learned {
        if let Some(node) = self.nodes.get_mut(usize::from(id)).and_then(Option::as_mut) {
            (node.knowledge, node.known) = (Knowledge::Everything, Announced::default());
        }
        self.retain(|_, of| of != id);
        Learned { new: NewRooms::All, ask: false }
    }
}

impl Node {
    fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard_at) >= SILENT_AFTER
    }

    /// What is known of it is not all. It has to be asked.
    fn doubt(&mut self) -> Learned {
        self.knowledge = Knowledge::Doubtful;
        Learned { ask: true, ..Learned::default() }
    }

    /// Collects the pieces of the node's set. Returns the set when it is whole.
    fn collect(
        &mut self,
        version: u64,
        piece: u32,
        pieces: u32,
        keys: Vec<InterestKey>,
    ) -> Option<Vec<InterestKey>> {
        let coming = self.coming.take().filter(|coming| coming.version == version && coming.piece == piece);
        let mut coming = match coming {
            Some(coming) => coming,
            None if piece == 0 => Coming { version, piece, keys: Vec::new() },
            // A piece before this one was lost. The node is asked again.
            None => return None,
        };
        coming.keys.extend(keys);
        coming.piece += 1;
        if coming.piece == pieces {
            return Some(coming.keys);
        }
        self.coming = Some(coming);
        None
    }
}

//! A small set of nodes.

/// A node's place in the table of nodes.
pub(super) type NodeId = u16;

/// Most nodes that are kept without an allocation. With it a set takes 16 bytes.
const FEW: usize = 6;

/// A small set of nodes.
#[derive(Debug)]
pub(super) enum NodeSet {
    Few {
        count: u8,
        ids: [NodeId; FEW],
    },
    #[expect(clippy::box_collection, reason = "it makes the frequent case smaller")]
    Many(Box<Vec<NodeId>>),
}

impl Default for NodeSet {
    fn default() -> NodeSet {
        NodeSet::Few { count: 0, ids: [0; FEW] }
    }
}

impl NodeSet {
    /// Returns the nodes, in the order in which they were inserted unless one was removed.
    pub fn ids(&self) -> &[NodeId] {
        match self {
            NodeSet::Few { count, ids } => &ids[..usize::from(*count)],
            NodeSet::Many(ids) => ids,
        }
    }

    /// Inserts a node. `false`: it was there.
    pub fn insert(&mut self, id: NodeId) -> bool {
        if self.ids().contains(&id) {
            return false;
        }
        match self {
            NodeSet::Few { count, ids } if usize::from(*count) < FEW => {
                ids[usize::from(*count)] = id;
                *count += 1;
            }
            NodeSet::Few { ids, .. } => {
                *self = NodeSet::Many(Box::new(ids.iter().copied().chain([id]).collect()));
            }
            NodeSet::Many(ids) => ids.push(id),
        }
        true
    }

    /// Removes a node. `false`: it was not there.
    pub fn remove(&mut self, id: NodeId) -> bool {
        let Some(at) = self.ids().iter().position(|found| *found == id) else { return false };
        match self {
            NodeSet::Few { count, ids } => {
                *count -= 1;
                ids[at] = ids[usize::from(*count)];
            }
            NodeSet::Many(ids) => _ = ids.swap_remove(at),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_each_node_once_however_many() {
        assert_eq!(size_of::<NodeSet>(), 16);
        let mut set = NodeSet::default();
        for id in 0..20 {
            assert!(set.insert(id) && !set.insert(id));
        }
        assert!(set.remove(3) && !set.remove(3) && !set.remove(99));
        let mut ids = set.ids().to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [&[0, 1, 2][..], &(4..20).collect::<Vec<_>>()].concat());
        let mut few = NodeSet::default();
        assert!(few.insert(7) && few.remove(7) && few.ids().is_empty());
    }
}

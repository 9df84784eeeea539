//! What a node learns from a message about another node's interest.

use starling_fanout::PARTITIONS;

use super::InterestKey;

/// What was learned from a message of another node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    /// Conversations that the node is interested in and was not known to be.
    pub new: NewRooms,
    /// Whether to ask the node for its whole interest.
    pub ask: bool,
}

/// Conversations that a node is interested in and was not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewRooms {
    /// These conversations.
    Rooms(Vec<InterestKey>),
    /// Any conversation.
    All,
}

impl Default for NewRooms {
    fn default() -> NewRooms {
        NewRooms::Rooms(Vec::new())
    }
}

impl NewRooms {
    /// Returns the partitions of these conversations.
    pub fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        let of = |keys: &Vec<InterestKey>| keys.iter().fold(0, |bits, key| bits | 1 << key.partition());
        let bits: u32 = if let NewRooms::Rooms(keys) = self { of(keys) } else { u32::MAX };
        (0..PARTITIONS).filter(move |partition| bits & (1 << partition) != 0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, NewRooms::Rooms(keys) if keys.is_empty())
    }
}

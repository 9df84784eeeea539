//! What waits to be published.

use std::sync::Arc;

use bytes::Bytes;
use starling_fanout::Publication;

use crate::interest::{InterestKey, NewRooms};
use crate::lane::Weigh;
use crate::node_message::{Head, NodeMessage};
use crate::room::Room;

/// Something that waits to be published. The nodes that it is for are chosen when it is published.
pub(crate) enum Outgoing {
    /// A publication for these nodes.
    To(Publication),
    /// A publication about a conversation, for the nodes that are interested in it.
    About {
        /// The conversation.
        key: InterestKey,
        /// The content.
        body: Bytes,
        /// Whether a node that becomes interested a moment later must get it, too.
        is_kept: bool,
    },
    /// Heads of conversations of one partition, each for the nodes that are interested in it.
    Heads { partition: u16, heads: Vec<(InterestKey, Head)> },
    /// The changes of this node's interest. `with_beat`: also what was announced so far.
    OwnInterest { with_beat: bool },
    /// This node's whole interest, for a node that has asked.
    OwnSet { to: Arc<str> },
    /// What was sent past a node that is interested, as it turns out.
    Missed { node: Arc<str>, rooms: NewRooms },
}

impl Outgoing {
    /// Makes a publication for all other nodes.
    pub fn everyone(partition: u16, message: &NodeMessage) -> Outgoing {
        Outgoing::To(Publication::to_everyone(partition, message.encode()))
    }

    /// Makes a publication about a room, for the nodes that are interested in it.
    pub fn about(room: &Room, message: &NodeMessage) -> Outgoing {
        Outgoing::About { key: room.interest, body: message.encode(), is_kept: message.is_state() }
    }

    /// Returns the content, if there is one already.
    pub fn body(&self) -> Option<&Bytes> {
        match self {
            Outgoing::To(publication) => Some(&publication.body),
            Outgoing::About { body, .. } => Some(body),
            _ => None,
        }
    }
}

impl Weigh for Outgoing {
    fn bytes(&self) -> usize {
        let more = match self {
            Outgoing::To(publication) => publication.body.len(),
            Outgoing::About { body, .. } => body.len(),
            Outgoing::Heads { heads, .. } => size_of_val(&heads[..]),
            Outgoing::Missed { rooms: NewRooms::Rooms(keys), .. } => size_of_val(&keys[..]),
            Outgoing::Missed { .. } | Outgoing::OwnInterest { .. } | Outgoing::OwnSet { .. } => 0,
        };
        size_of::<Outgoing>() + more
    }
}

//! What this node could not tell the others.
//!
//! A broker that is away for one node alone leaves the others without a gap of their own: they would never learn that somebody came,
//! went or is no member any more. So a node remembers on which lanes it failed, and says so when it can publish again.

use std::sync::atomic::{AtomicU32, Ordering};

use starling_fanout::{LANES, Publication};

use crate::node_message;

/// Lanes, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Lanes(AtomicU32);

const _: () = assert!(LANES as u32 <= u32::BITS, "a lane is a bit");

impl Lanes {
    /// Enters a lane.
    pub fn enter(&self, lane: u16) {
        self.0.fetch_or(1 << (lane % LANES), Ordering::Relaxed);
    }

    /// Enters the lane of a publication that was lost, unless it is found by the beats' heads anyway.
    pub fn lost(&self, publication: &Publication) {
        if node_message::concerns_all_lanes(&publication.body) {
            (0..LANES).for_each(|lane| self.enter(lane));
        } else if !node_message::is_message(&publication.body) {
            self.enter(publication.lane);
        }
    }

    /// Takes all lanes out.
    pub fn take(&self) -> Vec<u16> {
        let bits = self.0.swap(0, Ordering::Relaxed);
        (0..LANES).filter(|lane| bits & (1 << lane) != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::node_message::{NodeMessage, encode_message};

    #[test]
    fn what_the_heads_do_not_find_is_remembered_by_lane_until_it_is_taken() {
        let lanes = Lanes::default();
        lanes.lost(&Publication { lane: 3, body: encode_message(1, "t", "c", 1, 0, None, b"{}") });
        assert!(lanes.take().is_empty());
        for lane in [15, 0, 15] {
            let body: Bytes = NodeMessage::Missed { node: "n".into() }.encode();
            lanes.lost(&Publication { lane, body });
        }
        assert_eq!(lanes.take(), [0, 15]);
        assert!(lanes.take().is_empty());
        lanes.lost(&Publication { lane: 0, body: NodeMessage::Restored { node: "n".into() }.encode() });
        assert_eq!(lanes.take().len(), usize::from(LANES));
    }
}

//! What this node could not tell the others.
//!
//! A broker that is away for one node alone leaves the others without a gap of their own: they would never learn that somebody came,
//! went or is no member any more. So a node remembers on which lanes it failed, and says so when it can publish again.

use std::sync::atomic::{AtomicU32, Ordering};

use starling_fanout::{LANES, Publication};
use tokio::sync::Notify;

use crate::node_message::{self, Body};

/// Lanes, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    bits: AtomicU32,
    entered: Notify,
}

const _: () = assert!(LANES as u32 <= u32::BITS, "a lane is a bit");

impl Lanes {
    /// Enters a lane.
    pub fn enter(&self, lane: u16) {
        self.bits.fetch_or(1 << (lane % LANES), Ordering::Relaxed);
        self.entered.notify_one();
    }

    /// Enters all of them.
    pub fn enter_all(&self) {
        (0..LANES).for_each(|lane| self.enter(lane));
    }

    /// Enters the lane of a publication that was lost. `heads`: whether messages are found by the beats' heads anyway.
    pub fn lost(&self, publication: &Publication, heads: bool) {
        match node_message::kind_of(&publication.body) {
            Body::Here => {}
            Body::Message if heads => {}
            Body::Restored => self.enter_all(),
            Body::Message | Body::Other => self.enter(publication.lane),
        }
    }

    /// Takes all lanes out.
    pub fn take(&self) -> Vec<u16> {
        let bits = self.bits.swap(0, Ordering::Relaxed);
        (0..LANES).filter(|lane| bits & (1 << lane) != 0).collect()
    }

    /// Takes all lanes out once there are some. For one that waits.
    pub async fn entered(&self) -> Vec<u16> {
        loop {
            let lanes = self.take();
            if !lanes.is_empty() {
                return lanes;
            }
            self.entered.notified().await;
        }
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
        let message =
            Publication { lane: 3, body: encode_message(1, &"t".into(), &"c".into(), 1, 0, None, b"{}") };
        lanes.lost(&message, true);
        lanes.lost(&Publication { lane: 3, body: NodeMessage::Here { node: "n".into() }.encode() }, true);
        assert!(lanes.take().is_empty());
        lanes.lost(&message, false);
        assert_eq!(lanes.take(), [3]);
        for lane in [15, 0, 15] {
            let body: Bytes = NodeMessage::Missed { node: "n".into() }.encode();
            lanes.lost(&Publication { lane, body }, true);
        }
        assert_eq!(lanes.take(), [0, 15]);
        assert!(lanes.take().is_empty());
        let body = NodeMessage::Restored { node: "n".into() }.encode();
        lanes.lost(&Publication { lane: 0, body }, true);
        assert_eq!(lanes.take().len(), usize::from(LANES));
    }
}

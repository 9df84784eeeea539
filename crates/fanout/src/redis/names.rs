//! What the channels and keys in Redis are called.
//!
//! The number of the lane in braces is a hash tag: on a cluster everything of one lane is in one slot, and hence on
//! one server, so that one script can number, keep and publish.

use bytes::Bytes;
use fred::util::redis_keyslot;

use crate::LANES;

/// Begins every channel and key, with the version of their contents.
pub(super) const PREFIX: &str = "starling:v1";

/// A channel, and the cluster's slot that it is in.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) name: Bytes,
    pub(super) slot: u16,
}

/// The channels of all nodes.
pub(super) struct Channels {
    lanes: Vec<Channel>,
}

impl Channels {
    pub(super) fn new() -> Self {
        Self { lanes: (0..LANES).map(|lane| Channel::new(format!("{PREFIX}:lane:{{{lane}}}"))).collect() }
    }

    pub(super) fn lane(&self, lane: u16) -> &Channel {
        &self.lanes[usize::from(lane % LANES)]
    }

    pub(super) fn lanes(&self) -> &[Channel] {
        &self.lanes
    }
}

impl Channel {
    /// The channel that belongs to one node.
    pub(super) fn of_node(node: &str) -> Self {
        Self::new(format!("{PREFIX}:node:{node}"))
    }

    /// The channel by which one link checks whether it still hears what is in a lane's slot.
    pub(super) fn of_check(lane: u16, origin: &str) -> Self {
        Self::new(format!("{PREFIX}:check:{{{lane}}}:{origin}"))
    }

    fn new(name: String) -> Self {
        Self { slot: redis_keyslot(name.as_bytes()), name: name.into() }
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }
}

/// The lane that a channel carries.
pub(super) fn lane_of_channel(channel: &str) -> Option<u16> {
    let lane = channel.strip_prefix(PREFIX)?.strip_prefix(":lane:{")?.strip_suffix('}')?;
    lane.parse().ok().filter(|lane| *lane < LANES)
}

/// The keys of a topic: where its numbering stands (a hash), and its last publications (a stream). The slash is in
/// no name, so that no two topics share a key.
pub(super) fn topic_keys(lane: u16, tenant: &str, topic: &str) -> (Bytes, Bytes) {
    (
        format!("{PREFIX}:topic:{{{lane}}}:{tenant}/{topic}").into(),
        format!("{PREFIX}:history:{{{lane}}}:{tenant}/{topic}").into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_read_back_from_its_channel_and_shares_its_slot_with_its_keys() {
        let channels = Channels::new();
        for lane in 0..LANES {
            let channel = channels.lane(lane);
            assert_eq!(lane_of_channel(channel.text()), Some(lane));
            let (topic, history) = topic_keys(lane, "acme", "news");
            assert_eq!(redis_keyslot(&topic), channel.slot);
            assert_eq!(redis_keyslot(&history), channel.slot);
            assert_eq!(Channel::of_check(lane, "a/1").slot, channel.slot);
        }
        for other in ["starling:v1:lane:{16}", "starling:v1:lane:{x}", "starling:v1:node:a", ""] {
            assert_eq!(lane_of_channel(other), None);
        }
    }

    #[test]
    fn lanes_are_spread_over_a_cluster() {
        let channels = Channels::new();
        let mut servers = [0; 3];
        for channel in channels.lanes() {
            servers[usize::from(channel.slot) * 3 / 16384] += 1;
        }
        assert!(servers.iter().all(|lanes| (3..=8).contains(lanes)), "{servers:?}");
    }
}

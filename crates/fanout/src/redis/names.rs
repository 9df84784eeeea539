//! What the channels and keys in Redis are called.
//!
//! The number of the lane in braces is a hash tag: on a cluster everything of one lane is in one slot, and hence on
//! one server, so that one script can number, keep and publish. Without a cluster all is on one server anyway; there
//! all lanes share one channel, so that a call is one command, however many lanes it touches.

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
    /// One for all lanes, or one for each.
    groups: Vec<Channel>,
}

impl Channels {
    pub(super) fn new(is_cluster: bool) -> Self {
        let groups = if is_cluster {
            (0..LANES).map(|lane| Channel::new(format!("{PREFIX}:lane:{{{lane}}}"))).collect()
        } else {
            vec![Channel::new(format!("{PREFIX}:lanes"))]
        };
        Self { groups }
    }

    /// All channels, each for a group of lanes that are published together.
    pub(super) fn groups(&self) -> &[Channel] {
        &self.groups
    }

    /// The group that a lane is in.
    pub(super) fn group(&self, lane: u16) -> usize {
        usize::from(lane) % self.groups.len()
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

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It carries the publications of all lanes.
    AllLanes,
    /// It carries the publications of this lane.
    Lane(u16),
    /// It belongs to one node.
    Node,
}

impl Purpose {
    pub(super) fn of(channel: &str) -> Self {
        let Some(rest) = channel.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(":lane")) else {
            return Self::Node;
        };
        let lane = rest.strip_prefix(":{").and_then(|rest| rest.strip_suffix('}'));
        lane.and_then(|lane| lane.parse().ok()).map_or(Self::AllLanes, Self::Lane)
    }
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
    fn the_purpose_is_read_back_from_a_channel() {
        for (lane, channel) in (0..LANES).zip(Channels::new(true).groups()) {
            assert_eq!(Purpose::of(channel.text()), Purpose::Lane(lane));
        }
        assert_eq!(Purpose::of(Channels::new(false).groups()[0].text()), Purpose::AllLanes);
        assert_eq!(Purpose::of(Channel::of_node("a").text()), Purpose::Node);
        assert_eq!(Purpose::of(Channel::of_check(3, "a/1").text()), Purpose::Node);
    }

    #[test]
    fn on_a_cluster_a_lane_shares_its_slot_with_its_keys() {
        let channels = Channels::new(true);
        for lane in 0..LANES {
            let slot = channels.groups()[channels.group(lane)].slot;
            let (topic, history) = topic_keys(lane, "acme", "news");
            assert_eq!(redis_keyslot(&topic), slot);
            assert_eq!(redis_keyslot(&history), slot);
            assert_eq!(Channel::of_check(lane, "a/1").slot, slot);
        }
    }

    #[test]
    fn lanes_are_spread_over_a_cluster() {
        let mut servers = [0; 3];
        for channel in Channels::new(true).groups() {
            servers[usize::from(channel.slot) * 3 / 16384] += 1;
        }
        assert!(servers.iter().all(|lanes| (3..=8).contains(lanes)), "{servers:?}");
    }
}

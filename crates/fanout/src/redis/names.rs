//! What the channels and keys in Redis are called.
//!
//! The number of the lane in braces is a hash tag: on a cluster everything of one lane is in one slot, and hence on
//! one server, so that one script can number, keep and publish. Without a cluster all is on one server anyway; there
//! all lanes share one channel, so that a call is one command, however many lanes it touches.

use bytes::Bytes;
use fred::util::redis_keyslot;

use crate::LANES;

/// What every channel and key begins with unless the configuration says otherwise, with the version of their contents.
pub(super) const PREFIX: &str = "starling:v1";

/// Makes the names of one Starling cluster, of which several may share a Redis.
#[derive(Clone)]
pub(super) struct Names {
    /// What keys begin with.
    keys: Box<str>,
    /// What channels begin with. Redis' pub/sub knows no databases, so the number of any but the first stands here.
    channels: Box<str>,
}

impl Names {
    /// The names with this prefix, in the database of this number.
    pub(super) fn new(prefix: &str, database: Option<u8>) -> Self {
        let channels = match database {
            None | Some(0) => prefix.to_owned(),
            Some(number) => format!("{prefix}:db{number}"),
        };
        Self { keys: prefix.into(), channels: channels.into() }
    }

    /// The channel that belongs to one node.
    pub(super) fn of_node(&self, node: &str) -> Channel {
        Channel::new(format!("{}:node:{node}", self.channels))
    }

    /// The channel by which one link checks whether it still hears what is in a lane's slot.
    pub(super) fn of_check(&self, lane: u16, origin: &str) -> Channel {
        Channel::new(format!("{}:check:{{{lane}}}:{origin}", self.channels))
    }

    /// What a channel is for.
    pub(super) fn purpose_of(&self, channel: &str) -> Purpose {
        let Some(rest) = channel.strip_prefix(&*self.channels).and_then(|rest| rest.strip_prefix(":lane"))
        else {
            return Purpose::Node;
        };
        let lane = rest.strip_prefix(":{").and_then(|rest| rest.strip_suffix('}'));
        lane.and_then(|lane| lane.parse().ok()).map_or(Purpose::AllLanes, Purpose::Lane)
    }

    /// The key of the epochs that the numberings of a group of lanes begin with; in the slot of its lanes.
    pub(super) fn epochs_key(&self, group: usize) -> Bytes {
        format!("{}:epochs:{{{group}}}", self.keys).into()
    }

    /// The keys of a topic: where its numbering stands (a hash), and its last publications (a stream). The slash is in
    /// no name, so that no two topics share a key.
    pub(super) fn topic_keys(&self, lane: u16, tenant: &str, topic: &str) -> (Bytes, Bytes) {
        let prefix = &self.keys;
        (
            format!("{prefix}:topic:{{{lane}}}:{tenant}/{topic}").into(),
            format!("{prefix}:history:{{{lane}}}:{tenant}/{topic}").into(),
        )
    }
}

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
    pub(super) fn new(names: &Names, is_cluster: bool) -> Self {
        let prefix = &names.channels;
        let groups = if is_cluster {
            (0..LANES).map(|lane| Channel::new(format!("{prefix}:lane:{{{lane}}}"))).collect()
        } else {
            vec![Channel::new(format!("{prefix}:lanes"))]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(PREFIX, None)
    }

    #[test]
    fn the_purpose_is_read_back_from_a_channel() {
        for names in [names(), Names::new(PREFIX, Some(3)), Names::new("other:v1", None)] {
            for (lane, channel) in (0..LANES).zip(Channels::new(&names, true).groups()) {
                assert_eq!(names.purpose_of(channel.text()), Purpose::Lane(lane));
            }
            assert_eq!(names.purpose_of(Channels::new(&names, false).groups()[0].text()), Purpose::AllLanes);
            assert_eq!(names.purpose_of(names.of_node("a").text()), Purpose::Node);
            assert_eq!(names.purpose_of(names.of_check(3, "a/1").text()), Purpose::Node);
        }
    }

    #[test]
    fn the_first_database_keeps_the_names_of_before_and_others_have_their_own() {
        let of = |database| {
            let names = Names::new(PREFIX, database);
            [Channels::new(&names, false).groups()[0].text().to_owned(), names.of_node("a").text().to_owned()]
        };
        assert_eq!(of(None), ["starling:v1:lanes", "starling:v1:node:a"]);
        assert_eq!(of(Some(0)), of(None));
        assert_eq!(of(Some(1)), ["starling:v1:db1:lanes", "starling:v1:db1:node:a"]);
        // Keys are in their database anyhow.
        assert_eq!(Names::new(PREFIX, Some(1)).topic_keys(3, "t", "n"), names().topic_keys(3, "t", "n"));
    }

    #[test]
    fn on_a_cluster_a_lane_shares_its_slot_with_its_keys() {
        let channels = Channels::new(&names(), true);
        for lane in 0..LANES {
            let slot = channels.groups()[channels.group(lane)].slot;
            let (topic, history) = names().topic_keys(lane, "acme", "news");
            assert_eq!(redis_keyslot(&topic), slot);
            assert_eq!(redis_keyslot(&history), slot);
            assert_eq!(redis_keyslot(&names().epochs_key(channels.group(lane))), slot);
            assert_eq!(names().of_check(lane, "a/1").slot, slot);
        }
    }

    #[test]
    fn lanes_are_spread_over_a_cluster() {
        let mut servers = [0; 3];
        for channel in Channels::new(&names(), true).groups() {
            servers[usize::from(channel.slot) * 3 / 16384] += 1;
        }
        assert!(servers.iter().all(|lanes| (3..=8).contains(lanes)), "{servers:?}");
    }
}

//! The names of the channels and keys in Redis.
//!
//! The number of the partition in braces is a hash tag. On a cluster everything of one partition is in one slot, and so on one server, where
//! one script can number, keep and publish. Without a cluster all partitions share one channel, so that a batch is one command however many
//! partitions it contains.

use bytes::Bytes;
use fred::util::redis_keyslot;

use crate::PARTITIONS;

/// The default prefix of all channels and keys, with the version of their contents.
pub(super) const PREFIX: &str = "starling:v1";

/// The names of one Starling cluster. Several clusters may share a Redis.
#[derive(Clone)]
pub(super) struct Names {
    /// The prefix of keys.
    keys: Box<str>,
    /// The prefix of channels. Pub/sub ignores databases, so the prefix contains the database's number unless that is 0.
    channels: Box<str>,
}

impl Names {
    /// Returns the names with this prefix in this database.
    pub(super) fn new(prefix: &str, database: Option<u8>) -> Self {
        let channels = match database {
            None | Some(0) => prefix.to_owned(),
            Some(number) => format!("{prefix}:db{number}"),
        };
        Self { keys: prefix.into(), channels: channels.into() }
    }

    /// Returns the channel of one node.
    pub(super) fn of_node(&self, node: &str) -> Channel {
        Channel::new(format!("{}:node:{node}", self.channels))
    }

    /// Returns the channel of a link's checks in a partition's slot.
    pub(super) fn of_check(&self, partition: u16, origin: &str) -> Channel {
        Channel::new(format!("{}:check:{{{partition}}}:{origin}", self.channels))
    }

    /// Returns the purpose of a channel.
    pub(super) fn purpose_of(&self, channel: &str) -> Purpose {
        let Some(rest) = channel.strip_prefix(&*self.channels).and_then(|rest| rest.strip_prefix(":lane"))
        else {
            return Purpose::Node;
        };
        let partition = rest.strip_prefix(":{").and_then(|rest| rest.strip_suffix('}'));
        partition
            .and_then(|partition| partition.parse().ok())
            .map_or(Purpose::AllPartitions, Purpose::Partition)
    }

    /// Returns the key of the epochs of a group's new numberings, in the slot of its partitions.
    pub(super) fn epochs_key(&self, group: usize) -> Bytes {
        format!("{}:epochs:{{{group}}}", self.keys).into()
    }

    /// Returns the keys of a topic: its numbering (a hash) and its last publications (a stream). Names contain no slash, so no two topics
    /// share a key.
    pub(super) fn topic_keys(&self, partition: u16, tenant: &str, topic: &str) -> (Bytes, Bytes) {
        let prefix = &self.keys;
        (
            format!("{prefix}:topic:{{{partition}}}:{tenant}/{topic}").into(),
            format!("{prefix}:history:{{{partition}}}:{tenant}/{topic}").into(),
        )
    }
}

/// A channel and its slot in a cluster.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) name: Bytes,
    pub(super) slot: u16,
}

/// The channels that all nodes subscribe to.
pub(super) struct Channels {
    /// One channel for all partitions, or one for each.
    groups: Vec<Channel>,
}

impl Channels {
    pub(super) fn new(names: &Names, is_cluster: bool) -> Self {
        let prefix = &names.channels;
        let groups = if is_cluster {
            (0..PARTITIONS).map(|partition| Channel::new(format!("{prefix}:lane:{{{partition}}}"))).collect()
        } else {
            vec![Channel::new(format!("{prefix}:lanes"))]
        };
        Self { groups }
    }

    /// Returns all channels. Each is for a group of partitions that are published together.
    pub(super) fn groups(&self) -> &[Channel] {
        &self.groups
    }

    /// Returns the group of a partition.
    pub(super) fn group(&self, partition: u16) -> usize {
        usize::from(partition) % self.groups.len()
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

/// The purpose of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It carries the publications of all partitions.
    AllPartitions,
    /// It carries the publications of this partition.
    Partition(u16),
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
            for (partition, channel) in (0..PARTITIONS).zip(Channels::new(&names, true).groups()) {
                assert_eq!(names.purpose_of(channel.text()), Purpose::Partition(partition));
            }
            assert_eq!(
                names.purpose_of(Channels::new(&names, false).groups()[0].text()),
                Purpose::AllPartitions
            );
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
    fn on_a_cluster_a_partition_shares_its_slot_with_its_keys() {
        let channels = Channels::new(&names(), true);
        for partition in 0..PARTITIONS {
            let slot = channels.groups()[channels.group(partition)].slot;
            let (topic, history) = names().topic_keys(partition, "acme", "news");
            assert_eq!(redis_keyslot(&topic), slot);
            assert_eq!(redis_keyslot(&history), slot);
            assert_eq!(redis_keyslot(&names().epochs_key(channels.group(partition))), slot);
            assert_eq!(names().of_check(partition, "a/1").slot, slot);
        }
    }

    #[test]
    fn partitions_are_spread_over_a_cluster() {
        let mut servers = [0; 3];
        for channel in Channels::new(&names(), true).groups() {
            servers[usize::from(channel.slot) * 3 / 16384] += 1;
        }
        assert!(servers.iter().all(|partitions| (3..=8).contains(partitions)), "{servers:?}");
    }
}

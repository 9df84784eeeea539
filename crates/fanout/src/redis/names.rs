//! The names of the channels and keys in Redis.
//!
//! The number of the partition in braces is a hash tag. On a cluster everything of one partition is in one slot, and so on one server, where
//! one script can number, keep and publish. Without a cluster all partitions share one channel, so that a batch is one command however many
//! partitions it contains.

use bytes::Bytes;
use fred::util::redis_keyslot;

use crate::{PARTITIONS, TopicSettings};

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

    /// Returns the channel of one node in a partition's slot.
    pub(super) fn of_node_in(&self, partition: usize, node: &str) -> Channel {
        Channel::new(format!("{}:to:{{{partition}}}:{node}", self.channels))
    }

    /// Returns the channel of a link's checks in a partition's slot.
    pub(super) fn of_check(&self, partition: u16, origin: &str) -> Channel {
        Channel::new(format!("{}:check:{{{partition}}}:{origin}", self.channels))
    }

    /// Returns the purpose of a channel.
    pub(super) fn purpose_of(&self, channel: &str) -> Purpose {
        let rest = channel
            .strip_prefix(&*self.channels)
            .and_then(|rest| rest.strip_prefix(":lane").or_else(|| rest.strip_prefix(":topics")));
        let Some(rest) = rest else { return Purpose::Node };
        let partition = rest.strip_prefix(":{").and_then(|rest| rest.strip_suffix('}'));
        partition
            .and_then(|partition| partition.parse().ok())
            .map_or(Purpose::AllPartitions, Purpose::Partition)
    }

    /// Returns the prefix of all keys.
    pub(super) fn key_prefix(&self) -> &str {
        &self.keys
    }

    /// Returns the keys of the topics of a group of partitions, in its slot.
    pub(super) fn topics_keys(&self, group: usize, settings: TopicSettings) -> TopicsKeys {
        let prefix = &self.keys;
        let TopicSettings { history, history_seconds } = settings;
        let numbers = format!("{prefix}:numbers:{{{group}}}");
        let publications = format!("{prefix}:publications:{{{group}}}:{history}:{history_seconds}");
        TopicsKeys {
            numbers_before: format!("{numbers}:before").into(),
            numbers: numbers.into(),
            publications_before: format!("{publications}:before").into(),
            publications: publications.into(),
            older_epochs: format!("{prefix}:epochs:{{{group}}}").into(),
        }
    }

    /// Returns the keys of a topic that nodes of an older version use: its numbering (a hash) and its last publications (a stream). Names
    /// contain no slash, so no two topics share a key.
    pub(super) fn older_topic_keys(&self, partition: u16, tenant: &str, topic: &str) -> (Bytes, Bytes) {
        let prefix = &self.keys;
        (
            format!("{prefix}:topic:{{{partition}}}:{tenant}/{topic}").into(),
            format!("{prefix}:history:{{{partition}}}:{tenant}/{topic}").into(),
        )
    }
}

/// The keys of the topics of a group of partitions.
pub(super) struct TopicsKeys {
    /// The topics' numbering (a hash), and the one before.
    pub(super) numbers: Bytes,
    pub(super) numbers_before: Bytes,
    /// The topics' last publications (a hash), and those before. Nodes with other settings keep theirs apart.
    pub(super) publications: Bytes,
    pub(super) publications_before: Bytes,
    /// The epochs of numberings that nodes of an older version begin (a hash).
    pub(super) older_epochs: Bytes,
}

/// A channel and its slot in a cluster.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) name: Bytes,
    pub(super) slot: u16,
}

/// The channels that carry publications. The partitions of a group are published together: all of them, or on a cluster each by itself.
pub(super) struct Channels {
    names: Names,
    /// The channel of each group, which all nodes subscribe to.
    groups: Vec<Channel>,
    /// The channels for publications on topics, one for each group. Nodes of an older version expect these in the group's own channel.
    topics: Vec<Channel>,
    is_cluster: bool,
}

impl Channels {
    pub(super) fn new(names: &Names, is_cluster: bool) -> Self {
        let prefix = &names.channels;
        let of_partitions = |kind: &str| {
            (0..PARTITIONS)
                .map(|partition| Channel::new(format!("{prefix}:{kind}:{{{partition}}}")))
                .collect()
        };
        let (groups, topics) = if is_cluster {
            (of_partitions("lane"), of_partitions("topics"))
        } else {
            (vec![Channel::new(format!("{prefix}:lanes"))], vec![Channel::new(format!("{prefix}:topics"))])
        };
        Self { names: names.clone(), groups, topics, is_cluster }
    }

    /// Returns all channels in the order in which they are to be subscribed to. A node that is subscribed to a group's own channel and not to
    /// its channel for topics is of an older version.
    pub(super) fn all(&self) -> impl Iterator<Item = &Channel> {
        self.topics.iter().chain(&self.groups)
    }

    /// Returns the channel for publications on topics of a group.
    pub(super) fn of_topics(&self, group: usize) -> &Channel {
        &self.topics[group]
    }

    /// Returns the channel of one node for a group. It is in the slot of the group's own channel, so that both keep one order.
    pub(super) fn of_node(&self, group: usize, node: &str) -> Channel {
        if self.is_cluster { self.names.of_node_in(group, node) } else { self.names.of_node(node) }
    }

    /// Returns the channels on which one node receives what is for it alone, beside [`Names::of_node`].
    pub(super) fn own(&self, node: &str) -> Vec<Channel> {
        let groups = if self.is_cluster { 0..self.groups.len() } else { 0..0 };
        groups.map(|group| self.of_node(group, node)).collect()
    }

    /// Returns the channel of each group, which all nodes subscribe to.
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

    const SETTINGS: TopicSettings = TopicSettings { history: 100, history_seconds: 60 };

    fn names() -> Names {
        Names::new(PREFIX, None)
    }

    #[test]
    fn the_purpose_is_read_back_from_a_channel() {
        for names in [names(), Names::new(PREFIX, Some(3)), Names::new("other:v1", None)] {
            for (partition, channel) in (0..PARTITIONS).zip(Channels::new(&names, true).groups()) {
                assert_eq!(names.purpose_of(channel.text()), Purpose::Partition(partition));
                let topics = Channels::new(&names, true).of_topics(partition.into()).text().to_owned();
                assert_eq!(names.purpose_of(&topics), Purpose::Partition(partition));
            }
            for channel in Channels::new(&names, false).all() {
                assert_eq!(names.purpose_of(channel.text()), Purpose::AllPartitions);
            }
            assert_eq!(names.purpose_of(names.of_node("a").text()), Purpose::Node);
            assert_eq!(names.purpose_of(names.of_check(3, "a/1").text()), Purpose::Node);
            assert_eq!(names.purpose_of(names.of_node_in(3, "a").text()), Purpose::Node);
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
        let numbers = |names: &Names| names.topics_keys(3, SETTINGS).numbers;
        assert_eq!(numbers(&Names::new(PREFIX, Some(1))), numbers(&names()));
    }

    #[test]
    fn on_a_cluster_a_partition_shares_its_slot_with_its_keys() {
        let channels = Channels::new(&names(), true);
        for partition in 0..PARTITIONS {
            let slot = channels.groups()[channels.group(partition)].slot;
            let group = channels.group(partition);
            let (topic, history) = names().older_topic_keys(partition, "acme", "news");
            let keys = names().topics_keys(group, SETTINGS);
            let of_group = [
                keys.numbers,
                keys.numbers_before,
                keys.publications,
                keys.publications_before,
                keys.older_epochs,
            ];
            for key in of_group.iter().chain([&topic, &history]) {
                assert_eq!(redis_keyslot(key), slot, "{key:?}");
            }
            assert_eq!(channels.of_topics(group).slot, slot);
            assert_eq!(names().of_check(partition, "a/1").slot, slot);
            assert_eq!(channels.own("a")[channels.group(partition)].slot, slot);
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

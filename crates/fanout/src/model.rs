//! Publications, deliveries and errors, as plain data.

use std::sync::Arc;

use bytes::Bytes;
use starling_model::{TenantName, TopicName};

/// A message to other nodes. The fan-out does not look into the body.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The partition, from [`crate::partition_of`].
    pub partition: u16,
    /// The nodes that it is for.
    pub to: Destination,
    /// The content.
    pub body: Bytes,
}

/// The nodes that a publication is for. The node that publishes gets nothing back, even if it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All other nodes.
    Everyone,
    /// The nodes with these names. Nodes of versions that send to everyone only do not understand it.
    Nodes(Arc<[Arc<str>]>),
}

impl Publication {
    /// Makes a publication for all other nodes.
    pub fn to_everyone(partition: u16, body: Bytes) -> Publication {
        Publication { partition, to: Destination::Everyone, body }
    }
}

impl Destination {
    /// Whether a node gets what is published to this destination.
    pub fn includes(&self, node: &str) -> bool {
        match self {
            Destination::Everyone => true,
            Destination::Nodes(nodes) => nodes.iter().any(|listed| **listed == *node),
        }
    }
}

/// A message to a topic.
#[derive(Clone, Debug)]
pub struct TopicPublication {
    /// The topic's tenant.
    pub tenant: TenantName,
    /// The topic's name.
    pub topic: TopicName,
    /// The content.
    pub body: Bytes,
}

/// A position in a topic's stream of publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The name of the topic's present numbering. Another name means that the numbers started again.
    pub epoch: String,
    /// The number of a publication, from 1; 0 before the first.
    pub offset: u64,
}

/// The first four digits of an epoch, which tell whether two numbers belong to the same numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochTag(pub u16);

impl EpochTag {
    /// Returns the tag of an epoch; 0 if it does not begin with four hexadecimal digits, as all epochs of this program do.
    pub fn of(epoch: &str) -> EpochTag {
        EpochTag(epoch.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or_default())
    }
}

/// A topic's newest position, and the publications since an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicHistory {
    /// The newest position.
    pub position: Position,
    /// Whether `publications` holds all publications since the requested position. False if none was requested.
    pub recovered: bool,
    /// Pairs of offset and body, ascending; empty if `recovered` is false.
    pub publications: Vec<(u64, Bytes)>,
}

/// A delivery of a fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A [`Publication`] of another node, to all nodes or to some that include this one.
    Publication {
        /// Its partition.
        partition: u16,
        /// The content.
        body: Bytes,
    },
    /// A [`TopicPublication`] of any node.
    Topic {
        /// The topic's tenant.
        tenant: TenantName,
        /// The topic's name.
        topic: TopicName,
        /// The tag of the epoch that `offset` belongs to; `None` if a node of an older version published it.
        epoch: Option<EpochTag>,
        /// The number of the publication.
        offset: u64,
        /// The content.
        body: Bytes,
    },
    /// A message that was published to this node only.
    Direct {
        /// The content.
        body: Bytes,
    },
    /// A probe of this node came back.
    Probe {
        /// The number that it was published with.
        nonce: u64,
    },
    /// Publications may have been lost: the link broke and is up again, or a queue overflowed.
    Gap {
        /// The affected partition, or `None` for all.
        partition: Option<u16>,
    },
    /// The link to the broker is down. A `Gap` follows when it is up again.
    Down,
}

/// The state of the link to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether publications can be sent.
    pub connected: bool,
    /// Whether all partitions are subscribed to.
    pub subscribed: bool,
    /// The last fault, as text for people.
    pub fault: Option<String>,
}

/// Settings of a fan-out that keeps topic histories.
#[derive(Clone, Copy, Debug)]
pub struct TopicSettings {
    /// The number of publications that are kept of a topic.
    pub history: u32,
    /// How long they are kept, seconds.
    pub history_seconds: u32,
}

/// Why a call to the fan-out failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker can't be reached or took too long. Try again.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker refuses this node: a wrong user or password, or a missing right. The operator has to act.
    #[error("Redis refuses this node: {0}")]
    Refused(String),
    /// The address in `REDIS_URL` can't be used. The operator has to act.
    #[error("redis_url: {0}")]
    Address(String),
    /// A publication is larger than [`crate::BODY_BYTES_MAX`]. The caller is at fault; another try won't help.
    #[error("a publication of {0} bytes is too large")]
    TooLarge(usize),
    /// The broker is of a version that Starling can't use. The operator has to act.
    #[error("{0}")]
    Unsupported(String),
}

impl From<starling_redis_link::Error> for Error {
    fn from(error: starling_redis_link::Error) -> Error {
        use starling_redis_link::Error as Redis;
        match error {
            Redis::Unavailable(why) => Error::Unavailable(why),
            Redis::Refused(why) => Error::Refused(why),
            Redis::Address(why) => Error::Address(why),
            Redis::Unsupported(why) => Error::Unsupported(why),
        }
    }
}

//! What travels between nodes, as plain data.

use bytes::Bytes;
use starling_model::{TenantName, TopicName};

/// Something for all other nodes. The fan-out does not look into the body.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Which lane; from [`crate::lane_of`]. Below [`crate::LANES`].
    pub lane: u16,
    /// What to carry.
    pub body: Bytes,
}

/// Something for a topic.
#[derive(Clone, Debug)]
pub struct TopicPublication {
    /// Whose topic.
    pub tenant: TenantName,
    /// The topic's name.
    pub topic: TopicName,
    /// What to carry and keep.
    pub body: Bytes,
}

/// A place in a topic's stream of publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Names one life of the topic's numbering; another one means that the numbers began anew.
    pub epoch: String,
    /// Number of a publication, from 1; 0 before the first.
    pub offset: u64,
}

/// A short form of an epoch, to tell whether two numbers are of one numbering: its first four digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochTag(pub u16);

impl EpochTag {
    /// The tag of an epoch; 0 where it does not begin with four digits, as all do that this program makes.
    pub fn of(epoch: &str) -> EpochTag {
        EpochTag(epoch.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or_default())
    }
}

/// A topic's newest position and what came since an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicHistory {
    /// Where the topic stands.
    pub position: Position,
    /// Whether everything since the position asked for is in `publications`. `false` when none was asked for.
    pub recovered: bool,
    /// (offset, body), ascending; empty where `recovered` is false.
    pub publications: Vec<(u64, Bytes)>,
}

/// What a fan-out delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A [`Publication`] of another node.
    Publication {
        /// The lane that it came by.
        lane: u16,
        /// What it carries.
        body: Bytes,
    },
    /// A [`TopicPublication`] of any node.
    Topic {
        /// Whose topic.
        tenant: TenantName,
        /// The topic's name.
        topic: TopicName,
        /// The tag of the epoch that `offset` belongs to; `None` from a node of a version that did not say it.
        epoch: Option<EpochTag>,
        /// Which one it is.
        offset: u64,
        /// What it carries.
        body: Bytes,
    },
    /// Something that was sent to this node alone.
    Direct {
        /// What it carries.
        body: Bytes,
    },
    /// A probe of this node came back.
    Probe {
        /// The number that it was sent with.
        nonce: u64,
    },
    /// Publications may have been lost: the link broke and stands again, or a queue ran over.
    Gap {
        /// The lane concerned, or `None` for all.
        lane: Option<u16>,
    },
    /// The link to the broker is gone. A `Gap` follows when it is back.
    Down,
}

/// What the link to the broker looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether publications can be sent.
    pub connected: bool,
    /// Whether every lane's subscription stands.
    pub subscribed: bool,
    /// The last fault, for people.
    pub fault: Option<String>,
}

/// Settings of a fan-out that keeps topic histories.
#[derive(Clone, Copy, Debug)]
pub struct TopicSettings {
    /// How many publications of a topic are kept.
    pub history: u32,
    /// For how long, seconds.
    pub history_seconds: u32,
}

/// Why a publication was not carried.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker can't be reached or took too long. Try again.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker refuses this node: a wrong user or password, or a right that is missing. The operator's to mend.
    #[error("Redis refuses this node: {0}")]
    Refused(String),
    /// The address in `REDIS_URL` can't be used. The operator's to mend.
    #[error("redis_url: {0}")]
    Address(String),
    /// One publication is larger than [`crate::BODY_BYTES_MAX`]. The caller's fault; trying again won't help.
    #[error("a publication of {0} bytes is too large")]
    TooLarge(usize),
    /// The broker is of a version that Starling can't use. The operator's to mend.
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

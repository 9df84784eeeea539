//! What a node answers. Each struct is the `ok` of one command; field order is the order on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use starling_model::{ConversationName, TenantName, TopicName, UserName};

use super::{Message, Timestamp, TopicPosition};

/// The `ok` of a command without fields.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Empty {}

/// `ok` of `connect`.
#[derive(Clone, Debug, Serialize)]
pub struct Connected {
    /// The session's id.
    pub session: String,
    /// What to resume it with.
    pub ticket: String,
    /// Who the token says one is.
    pub user: UserName,
    /// Whose user.
    pub tenant: TenantName,
    /// The node's name.
    pub node: Arc<str>,
    /// Whether the session goes on.
    pub resumed: bool,
    /// How often the node pings.
    pub heartbeat_ms: u64,
    /// For how long the session outlives its socket.
    pub resume_window_ms: u64,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// Resumed conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<BTreeMap<ConversationName, ResumedConversation>>,
    /// Resumed topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<BTreeMap<TopicName, Subscribed>>,
    /// Conversations that can't be read any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<Vec<ConversationName>>,
}

/// What a resume replays of one conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResumedConversation {
    /// Newest number.
    pub head: u64,
    /// How many messages follow.
    pub replayed: u64,
    /// Whether older ones were left out.
    pub truncated: bool,
    /// Which log this is: another one has other messages under the same numbers.
    pub log: Arc<str>,
    /// Whether the client's cursor belongs to messages that are no longer there, and the replay starts from the beginning.
    pub reset: bool,
}

/// `ok` of `refresh`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Refreshed {
    /// When the newer token ends.
    pub expires_at: Timestamp,
}

/// `ok` of `create`.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    /// Its name.
    pub conversation: ConversationName,
    /// `false`: it was there.
    pub created: bool,
}

/// `ok` of `join`.
#[derive(Clone, Debug, Serialize)]
pub struct Joined {
    /// Newest number, 0 when empty.
    pub head: u64,
    /// How many messages follow.
    pub replayed: u64,
    /// Whether older ones were left out.
    pub truncated: bool,
    /// Which log this is: another one has other messages under the same numbers.
    pub log: Arc<str>,
    /// Whether the client's cursor belongs to messages that are no longer there, and the replay starts from the beginning.
    pub reset: bool,
    /// Who is there.
    pub online: Vec<UserName>,
    /// Read marks.
    pub reads: BTreeMap<UserName, u64>,
}

/// `ok` of `send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The message's id.
    #[serde(serialize_with = "super::uuid::serialize")]
    pub id: u128,
    /// Its number.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// Whether the key had been used before.
    pub duplicate: bool,
}

/// `ok` of `history`.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryPage {
    /// Ascending by number.
    pub messages: Vec<Message>,
    /// Whether there is more in that direction.
    pub more: bool,
}

/// `ok` of `presence`.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceList {
    /// One entry a member.
    pub users: Vec<PresenceUser>,
}

/// Somebody in `presence`.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceUser {
    /// Who.
    pub user: UserName,
    /// Whether there.
    pub online: bool,
    /// With how many sessions.
    pub devices: u32,
    /// When last, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// `ok` of `subscribe`, and a resumed topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscribed {
    /// One life of the numbering.
    pub epoch: String,
    /// Newest number.
    pub offset: u64,
    /// Whether all since the given position follows.
    pub recovered: bool,
    /// How many follow.
    pub replayed: u64,
}

/// `ok` of `publish`: where it stands.
pub type Published = TopicPosition;

//! The replies of a node. Each struct is the `ok` of one command, with its fields in the order in which they are sent.

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
    /// The ticket with which the session can be resumed.
    pub ticket: String,
    /// The user that the token names.
    pub user: UserName,
    /// The user's tenant.
    pub tenant: TenantName,
    /// The node's name.
    pub node: Arc<str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// How often the node pings, milliseconds.
    pub heartbeat_ms: u64,
    /// How long the session can be resumed after its connection was lost, milliseconds.
    pub resume_window_ms: u64,
    /// When the token expires.
    pub expires_at: Timestamp,
    /// The conversations of a resumed session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<BTreeMap<ConversationName, ResumedConversation>>,
    /// The topics of a resumed session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<BTreeMap<TopicName, Subscribed>>,
    /// Conversations of the session that the user may no longer read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<Vec<ConversationName>>,
}

/// The state of a resumed conversation, and its replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResumedConversation {
    /// The conversation's head.
    pub head: u64,
    /// Number of messages that are replayed.
    pub replayed: u64,
    /// Whether older messages were left out.
    pub truncated: bool,
    /// The id of the log. Another log has other messages under the same numbers.
    pub log: Arc<str>,
    /// Whether the client's cursor belongs to messages that are no longer there, and the replay starts from the beginning.
    pub reset: bool,
}

/// `ok` of `refresh`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Refreshed {
    /// When the new token expires.
    pub expires_at: Timestamp,
}

/// `ok` of `create`.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    /// The conversation's name.
    pub conversation: ConversationName,
    /// `false`: the conversation existed already.
    pub created: bool,
}

/// `ok` of `join`.
#[derive(Clone, Debug, Serialize)]
pub struct Joined {
    /// The conversation's head; 0 if the log is empty.
    pub head: u64,
    /// Number of messages that are replayed.
    pub replayed: u64,
    /// Whether older messages were left out.
    pub truncated: bool,
    /// The id of the log. Another log has other messages under the same numbers.
    pub log: Arc<str>,
    /// Whether the client's cursor belongs to messages that are no longer there, and the replay starts from the beginning.
    pub reset: bool,
    /// The users who are online.
    pub online: Vec<UserName>,
    /// The members' read marks.
    pub reads: BTreeMap<UserName, u64>,
}

/// `ok` of `send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The message's id.
    #[serde(serialize_with = "super::uuid::serialize")]
    pub id: u128,
    /// The message's seq.
    pub seq: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// Whether a message with this key had been committed before.
    pub duplicate: bool,
}

/// `ok` of `history`.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryPage {
    /// The messages, in ascending order.
    pub messages: Vec<Message>,
    /// Whether the log has more messages in that direction.
    pub more: bool,
}

/// `ok` of `presence`.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceList {
    /// The members.
    pub users: Vec<PresenceUser>,
}

/// The presence of one member.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceUser {
    /// The user's name.
    pub user: UserName,
    /// Whether the user is online.
    pub online: bool,
    /// The number of the user's sessions.
    pub devices: u32,
    /// When the user was last seen, if they are offline and it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// `ok` of `subscribe`, and a resumed topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscribed {
    /// The topic's epoch.
    pub epoch: String,
    /// The offset of the latest publication.
    pub offset: u64,
    /// Whether all publications since the given position follow.
    pub recovered: bool,
    /// Number of publications that are replayed.
    pub replayed: u64,
}

/// `ok` of `publish`: the position of the publication.
pub type Published = TopicPosition;

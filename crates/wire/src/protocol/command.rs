//! What a client asks: the list of commands, and what they carry.
//!
//! [`commands!`] makes [`Command`] and [`Operation`] of the list. Its rules are in `operation.rs`.

use std::collections::BTreeMap;

use starling_model::{ConversationName, TopicName, UserName};

use super::Json;
use super::decode::build;
use super::decode::fields::Fields;
use super::operation::commands;

/// A client's frame: a command under an id that the client chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// From 1 to 2^53-1; the reply carries it.
    pub id: u64,
    /// What is asked, or why it can't be understood (to be answered under the same id).
    pub command: Result<Command, BadRequest>,
    /// Whether it is a `connect`, be it one that can't be understood.
    pub is_connect: bool,
}

/// A frame with a usable id whose rest is not a command: unknown `op`, missing field, wrong type, bad name, too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// `bad_request` or `too_large`.
    pub code: super::ErrorCode,
    /// For the developer of the client: names the field.
    pub message: String,
}

commands! {
    whole {
        /// The first command of a connection.
        Connect(Connect) = "connect" [token, resume] from connect, in_turn;
        /// Makes a conversation.
        Create(Create) = "create" [conversation, title, members, metadata] from create, in_turn, scope "conversations:create";
        /// Says something, durably.
        Send(Send) = "send" [conversation, key, content, metadata] from send, may_overtake;
        /// Reads a page of the log.
        History(History) = "history" [conversation, before, after, limit] from history, in_turn;
    }
    by_field {
        /// A newer token for the connection.
        Refresh = "refresh" {
            /// The JWT.
            token: String = owned_text,
        }, in_turn;
        /// Joins a conversation; replays what came after `after`.
        Join = "join" {
            /// Its name.
            conversation: ConversationName = name,
            /// The highest number seen.
            after: Option<u64> = optional_integer,
            /// The log that `after` belongs to.
            log: Option<String> = optional_log,
        }, in_turn;
        /// Leaves a conversation (stays a member).
        Leave = "leave" {
            /// Its name.
            conversation: ConversationName = name,
        }, in_turn;
        /// Marks as read.
        Read = "read" {
            /// Its name.
            conversation: ConversationName = name,
            /// Up to and with this number.
            seq: u64 = integer,
        }, in_turn;
        /// Tells that the user types, or stopped.
        Typing = "typing" {
            /// Its name.
            conversation: ConversationName = name,
            /// `false`: the user stopped.
            typing: bool = boolean,
        }, in_turn;
        /// Asks who is online.
        Presence = "presence" {
            /// Its name.
            conversation: ConversationName = name,
        }, in_turn;
        /// Subscribes to a topic.
        Subscribe = "subscribe" {
            /// Its name.
            topic: TopicName = name,
            /// The last position seen.
            since: Option<TopicPosition> = optional_position,
        }, in_turn, scope "subscribe:";
        /// Ends a subscription.
        Unsubscribe = "unsubscribe" {
            /// Its name.
            topic: TopicName = name,
        }, in_turn;
        /// Publishes to a topic.
        Publish = "publish" {
            /// Its name.
            topic: TopicName = name,
            /// Any value.
            data: Json = data,
        }, may_overtake, scope "publish:";
        /// Asks for a sign of life.
        Ping = "ping" {}, in_turn;
    }
}

impl Command {
    /// The word on the wire, for traces.
    pub fn op(&self) -> &'static str {
        self.operation().name()
    }

    /// Whether the command may begin, and be answered, before the answers to earlier commands of the connection.
    pub fn may_overtake(&self) -> bool {
        self.operation().may_overtake()
    }
}

/// Fields of `connect`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    /// The JWT, where the upgrade did not carry one.
    pub token: Option<String>,
    /// The session to go on with.
    pub resume: Option<Resume>,
}

/// The session to go on with, and from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// The session's id.
    pub session: String,
    /// The ticket that the last `connect` gave.
    pub ticket: String,
    /// Per conversation the highest number seen.
    pub cursors: BTreeMap<ConversationName, Cursor>,
    /// Per topic the last position seen.
    pub topics: BTreeMap<TopicName, TopicPosition>,
}

/// How far a client has seen a conversation's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The highest number seen.
    pub seq: u64,
    /// The log that the number belongs to, where the client knows it.
    pub log: Option<String>,
}

/// A place in a topic's stream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicPosition {
    /// One life of the numbering.
    pub epoch: String,
    /// Number of a publication.
    pub offset: u64,
}

/// Fields of `create`, over WebSocket and HTTP alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// Its name; the node makes one up where there is none.
    pub conversation: Option<ConversationName>,
    /// Shown to people.
    pub title: Option<String>,
    /// Further members.
    pub members: Vec<UserName>,
    /// A JSON object.
    pub metadata: Option<Json>,
}

/// Fields of `send`.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// Where to.
    pub conversation: ConversationName,
    /// Idempotency key.
    pub key: String,
    /// The text.
    pub content: String,
    /// A JSON object.
    pub metadata: Option<Json>,
}

/// Fields of `history`. At most one of `before` and `after` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Where.
    pub conversation: ConversationName,
    /// Only smaller numbers.
    pub before: Option<u64>,
    /// Only larger numbers.
    pub after: Option<u64>,
    /// How many at most, 1–200.
    pub limit: u32,
}

/// A message that is posted over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct PostedMessage {
    /// Where to, from the path.
    pub conversation: ConversationName,
    /// Idempotency key.
    pub key: String,
    /// The text.
    pub content: String,
    /// A JSON object.
    pub metadata: Option<Json>,
    /// Whom it is to stand under, other than the caller; for scope `admin`.
    pub sender: Option<UserName>,
    /// `user`, `assistant`, `system` or `tool`; for scope `admin`.
    pub role: Option<String>,
}

/// What `PATCH` changes of a conversation. The outer `None` leaves a field as it is, the inner one removes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// Shown to people.
    pub title: Option<Option<String>>,
    /// A JSON object.
    pub metadata: Option<Option<Json>>,
}

/// A frame that is no request at all: the connection closes with 4400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of this protocol: {0}")]
pub struct NotAFrame(pub String);

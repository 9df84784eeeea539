//! The list of commands and their fields.
//!
//! [`commands!`] defines [`Command`] and [`Operation`] from the list. `operation.rs` explains how the list is written.

use std::collections::BTreeMap;

use starling_model::{ConversationName, TopicName, UserName};

use super::decode::build;
use super::decode::fields::Fields;
use super::operation::commands;
use super::{Cursor, Json, TopicPosition};

/// A client's frame: a command, with an id that the client chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The command's id, from 1 to 2^53-1. The reply has the same id.
    pub id: u64,
    /// The command, or the reason for which the frame is not one. The reason is sent as the reply.
    pub command: Result<Command, BadRequest>,
    /// Whether the frame is a `connect`, even one that is not valid.
    pub is_connect: bool,
}

/// The reason for which a frame with a usable id is not a command: unknown `op`, missing field, wrong type, bad name, too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The error code: `bad_request` or `too_large`.
    pub code: super::ErrorCode,
    /// A message for the developer of the client. It names the field.
    pub message: String,
}

commands! {
    whole {
        /// Begins or resumes a session. The first command of a connection.
        Connect(Connect) = "connect" [token, resume] from connect, in_turn;
        /// Creates a conversation.
        Create(Create) = "create" [conversation, title, members, metadata] from create, in_turn, scope "conversations:create";
        /// Appends a message to a conversation's log.
        Send(Send) = "send" [conversation, key, content, metadata] from send, may_overtake;
        /// Reads a page of the log.
        History(History) = "history" [conversation, before, after, limit] from history, in_turn;
    }
    by_field {
        /// Replaces the connection's token by a newer one.
        Refresh = "refresh" {
            /// The new token, a JWT.
            token: String = owned_text,
        }, in_turn;
        /// Joins a conversation, and replays the messages after `after`.
        Join = "join" {
            /// The conversation's name.
            conversation: ConversationName = name,
            /// The highest seq that the client has.
            after: Option<u64> = optional_integer,
            /// The log that `after` belongs to.
            log: Option<String> = optional_log,
        }, in_turn;
        /// Leaves a conversation. The user stays a member.
        Leave = "leave" {
            /// The conversation's name.
            conversation: ConversationName = name,
        }, in_turn;
        /// Raises the user's read mark.
        Read = "read" {
            /// The conversation's name.
            conversation: ConversationName = name,
            /// The seq of the last message that was read.
            seq: u64 = integer,
        }, in_turn;
        /// Tells that the user began or stopped typing.
        Typing = "typing" {
            /// The conversation's name.
            conversation: ConversationName = name,
            /// Whether the user types. `false`: the user stopped.
            typing: bool = boolean,
        }, in_turn;
        /// Asks for the members' presence.
        Presence = "presence" {
            /// The conversation's name.
            conversation: ConversationName = name,
        }, in_turn;
        /// Subscribes to a topic.
        Subscribe = "subscribe" {
            /// The topic's name.
            topic: TopicName = name,
            /// The last position that the client has.
            since: Option<TopicPosition> = optional_position,
        }, in_turn, scope "subscribe:";
        /// Ends the subscription to a topic.
        Unsubscribe = "unsubscribe" {
            /// The topic's name.
            topic: TopicName = name,
        }, in_turn;
        /// Publishes on a topic.
        Publish = "publish" {
            /// The topic's name.
            topic: TopicName = name,
            /// The publication's data, any JSON value.
            data: Json = data,
        }, may_overtake, scope "publish:";
        /// Asks for a reply, as a sign of life.
        Ping = "ping" {}, in_turn;
    }
}

impl Command {
    /// Returns the command's `op`, for traces.
    pub fn op(&self) -> &'static str {
        self.operation().name()
    }

    /// Whether the command may begin, and its reply be sent, before the replies to earlier commands of the connection.
    pub fn may_overtake(&self) -> bool {
        self.operation().may_overtake()
    }
}

/// The fields of `connect`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    /// The token, a JWT, if the handshake did not carry one.
    pub token: Option<String>,
    /// The session to resume.
    pub resume: Option<Resume>,
}

/// A session to resume, and the positions to resume from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// The session's id.
    pub session: String,
    /// The ticket from the reply to the last `connect`.
    pub ticket: String,
    /// The highest seq that the client has, per conversation.
    pub cursors: BTreeMap<ConversationName, Cursor>,
    /// The last position that the client has, per topic.
    pub topics: BTreeMap<TopicName, TopicPosition>,
}

/// The fields of `create`, over WebSocket and HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// The conversation's name. The node makes one if it is absent.
    pub conversation: Option<ConversationName>,
    /// A title to show to people.
    pub title: Option<String>,
    /// The members, in addition to the owner.
    pub members: Vec<UserName>,
    /// Metadata, a JSON object.
    pub metadata: Option<Json>,
}

/// The fields of `send`.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    /// The conversation that gets the message.
    pub conversation: ConversationName,
    /// The idempotency key.
    pub key: String,
    /// The message's text.
    pub content: String,
    /// Metadata, a JSON object.
    pub metadata: Option<Json>,
}

/// The fields of `history`. At most one of `before` and `after` is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The conversation whose log is read.
    pub conversation: ConversationName,
    /// Only messages with a lower seq.
    pub before: Option<u64>,
    /// Only messages with a higher seq.
    pub after: Option<u64>,
    /// Most messages in the page, 1–200.
    pub limit: u32,
}

/// A message that is posted over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct PostedMessage {
    /// The message. The path names the conversation.
    pub send: Send,
    /// The sender's name, if it is not the caller's. Needs the scope `admin`.
    pub sender: Option<UserName>,
    /// The sender's role: `user`, `assistant`, `system` or `tool`. Needs the scope `admin`.
    pub role: Option<String>,
}

/// The changes of a `PATCH` of a conversation. The outer `None` leaves a field as it is, the inner one removes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// A title to show to people.
    pub title: Option<Option<String>>,
    /// Metadata, a JSON object.
    pub metadata: Option<Option<Json>>,
}

/// The error that a frame is not a request at all. The connection is closed with 4400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of this protocol: {0}")]
pub struct NotAFrame(pub String);

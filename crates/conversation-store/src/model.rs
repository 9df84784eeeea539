//! The contents of the log, as plain data. Times are Unix milliseconds in UTC; `metadata` is compact JSON text.

use std::sync::Arc;

use starling_model::{ConversationId, ConversationName, Seq, TenantName, UserName};

use crate::Error;

/// The kind of author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A user.
    User,
    /// An AI agent.
    Assistant,
    /// The application.
    System,
    /// A tool that an agent called.
    Tool,
}

impl Role {
    /// Returns the role's name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Tool => "tool",
        }
    }
    /// Returns the role of this name.
    pub fn parse(name: &str) -> Option<Role> {
        Some(match name {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "tool" => Role::Tool,
            _ => return None,
        })
    }
}

/// A message to append to the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message's id (a UUID, version 7), made by the node. The answer to a duplicate has the id of the first one.
    pub id: uuid::Uuid,
    /// The user who sent it.
    pub sender: UserName,
    /// Idempotency key, unique per sender and conversation.
    pub key: String,
    /// The kind of author.
    pub role: Role,
    /// The text.
    pub content: Arc<str>,
    /// A JSON object in compact form.
    pub metadata: Option<Arc<str>>,
    /// Whether backends are to be told of the message. Then it is noted in the same transaction, and returned by
    /// [`crate::ConversationStore::announced`].
    pub announced: bool,
}

impl Append {
    /// Makes a message of a user that has nothing but a text.
    pub fn of_user(
        id: uuid::Uuid,
        conversation: ConversationId,
        sender: impl Into<UserName>,
        key: impl Into<String>,
        content: impl Into<Arc<str>>,
    ) -> Append {
        let (sender, key, content) = (sender.into(), key.into(), content.into());
        Append { conversation, id, sender, key, role: Role::User, content, metadata: None, announced: false }
    }
}

/// The position of a message in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The message's id, or the first one's if this is a duplicate.
    pub id: uuid::Uuid,
    /// The message's number in its conversation, from 1.
    pub seq: Seq,
    /// Time of the commit, by the database's clock.
    pub at_ms: i64,
    /// Whether the log had a message with this conversation, sender and key before.
    pub duplicate: bool,
}

/// The latest reports of other nodes on the link through the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkReports {
    /// Whether at least one node hears the others.
    pub some_hear: bool,
    /// Whether at least one node does not.
    pub some_are_deaf: bool,
}

/// Why one message of a batch is not in the log although others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The conversation does not exist (any more).
    #[error("no such conversation")]
    NoSuchConversation,
    /// The database refused this message. The reason was logged.
    #[error("the database refused the message")]
    Refused,
    /// The database went away before or while the message was written. Try again.
    #[error("the database is not available")]
    Unavailable,
}

impl AppendError {
    /// Translates the error of a batch for each of its messages.
    pub(crate) fn of_batch(error: &Error) -> Self {
        if error.is_transient() { Self::Unavailable } else { Self::Refused }
    }
}

/// A message in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message's number in its conversation, from 1, without holes.
    pub seq: Seq,
    /// The message's id.
    pub id: uuid::Uuid,
    /// The user who sent it.
    pub sender: UserName,
    /// The kind of author.
    pub role: Role,
    /// The text.
    pub content: String,
    /// A JSON object in compact form.
    pub metadata: Option<String>,
    /// Time of the commit.
    pub at_ms: i64,
}

/// A message that backends are to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its place among all that was announced.
    pub position: i64,
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub conversation: ConversationName,
    /// The message. `None`: the conversation was deleted, and the message has been erased.
    pub message: Option<Message>,
}

/// A change of a conversation's members that backends are to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedMember {
    /// Its place among all that was announced.
    pub position: i64,
    /// The id of the change.
    pub event: uuid::Uuid,
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub conversation: ConversationName,
    /// The user.
    pub user: UserName,
    /// Whether the user is a member since this change.
    pub is_member: bool,
    /// When it was committed, Unix milliseconds by the database's clock.
    pub at_ms: i64,
}

/// A range of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest messages.
    Newest,
    /// The newest messages with a smaller number.
    Before(Seq),
    /// The oldest messages with a larger number.
    After(Seq),
}

/// A page of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The messages, ascending by number.
    pub messages: Vec<Message>,
    /// Whether there are more messages in the direction of reading (older ones for `Newest` and `Before`).
    pub more: bool,
}

/// A conversation to create.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name, unique in the tenant.
    pub conversation: ConversationName,
    /// The owner, who becomes a member.
    pub owner: UserName,
    /// The title that users see.
    pub title: Option<String>,
    /// A JSON object in compact form.
    pub metadata: Option<String>,
    /// Further members.
    pub members: Vec<UserName>,
}

/// The outcome of creating a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The id of the new or existing conversation.
    pub id: ConversationId,
    /// Whether it was created. False if there was one of that name; it was not changed.
    pub created: bool,
    /// Whether the given owner is a member of the new or existing conversation.
    pub member: bool,
}

/// The outcome of adding or removing a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersChange {
    /// Whether anything changed. False if the user was a member already, or was none.
    pub changed: bool,
    /// The new [`Conversation::members_version`].
    pub version: u64,
    /// The present owner. When an owner leaves, the member who joined first becomes the owner.
    pub owner: UserName,
}

/// The newest number and the versions of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationHead {
    /// The conversation's id.
    pub id: ConversationId,
    /// The number of the newest message; 0 if there is none.
    pub head: Seq,
    /// See [`Conversation::members_version`].
    pub members_version: u64,
    /// See [`Conversation::details_version`].
    pub details_version: u64,
    /// See [`Conversation::log`].
    pub log: String,
}

/// A conversation with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The conversation's id.
    pub id: ConversationId,
    /// The conversation's name.
    pub conversation: ConversationName,
    /// The owner.
    pub owner: UserName,
    /// The title that users see.
    pub title: Option<String>,
    /// A JSON object in compact form.
    pub metadata: Option<String>,
    /// Time at which it was created.
    pub created_at_ms: i64,
    /// The number of the newest message; 0 if there is none.
    pub head: Seq,
    /// The members, ascending by user.
    pub members: Vec<Member>,
    /// Number of changes to the members since the conversation was created. Each change raises it by one in its own transaction, so that a
    /// receiver notices changes that come late, twice, in another order or not at all.
    pub members_version: u64,
    /// Number of changes to title or metadata since the conversation was created.
    pub details_version: u64,
    /// The id of the log: at most 32 characters of `0-9 a-z -`, beginning with the database's [incarnation](incarnation_of). It changes when
    /// the conversation is deleted and created again, and when the database is restored to an earlier state.
    pub log: String,
}

/// Returns the incarnation of the database that a log belongs to.
pub fn incarnation_of(log: &str) -> &str {
    log.split_once('-').map_or(log, |(incarnation, _)| incarnation)
}

/// A member of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: UserName,
    /// The highest number that the member marked as read; 0 for none.
    pub read: Seq,
}

/// A read mark.
#[derive(Clone, Debug)]
pub struct ReadMark {
    /// The conversation.
    pub conversation: ConversationId,
    /// The user.
    pub user: UserName,
    /// The highest number that is read.
    pub seq: Seq,
}

/// An entry in a user's list of conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSummary {
    /// The conversation's id.
    pub id: ConversationId,
    /// The conversation's name.
    pub conversation: ConversationName,
    /// The owner.
    pub owner: UserName,
    /// The title that users see.
    pub title: Option<String>,
    /// A JSON object in compact form.
    pub metadata: Option<String>,
    /// Time at which it was created.
    pub created_at_ms: i64,
    /// The number of the newest message; 0 if there is none.
    pub head: Seq,
}

/// A page of a user's list of conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationList {
    /// The conversations, newest activity first.
    pub conversations: Vec<ConversationSummary>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<ListCursor>,
}

/// The position at which a page of conversations ended. The list is in descending order of time and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// Time of the last message.
    pub active_at_ms: i64,
    /// The conversation's id.
    pub id: ConversationId,
}

/// The time at which a user was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The user's tenant.
    pub tenant: TenantName,
    /// The user.
    pub user: UserName,
    /// The time.
    pub at_ms: i64,
}

/// The outcome of adding a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// The user is a member now, or was one already.
    Member(MembersChange),
    /// The conversation has the maximal number of members. Nothing changed.
    Full,
}

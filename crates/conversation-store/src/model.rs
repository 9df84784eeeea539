//! What the log holds, as plain data. Times are Unix milliseconds in UTC; `metadata` is compact JSON text.

use std::sync::Arc;

use starling_model::{ConversationName, TenantName, UserName};

use crate::Error;

/// A conversation's number inside the database. Not reused: a conversation that is deleted and made again
/// under the same name has another id, so that what was meant for the old one can't reach the new one.
pub type ConversationId = i64;

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A person (or whoever holds a user's token).
    User,
    /// An AI agent's answer.
    Assistant,
    /// The application itself.
    System,
    /// The result of a tool that an agent called.
    Tool,
}

impl Role {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Tool => "tool",
        }
    }
    /// The role of that name.
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

/// A message on its way into the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where to.
    pub conversation: ConversationId,
    /// The message's id (a UUID, version 7), made by the node; a duplicate's answer holds the first one's.
    pub id: uuid::Uuid,
    /// The user that it stands under.
    pub sender: UserName,
    /// Idempotency key, unique per sender and conversation.
    pub key: String,
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: Arc<str>,
    /// Compact JSON object.
    pub metadata: Option<Arc<str>>,
}

/// Where a message stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The message's id; of the first one where this is a duplicate.
    pub id: uuid::Uuid,
    /// Its number in its conversation, from 1.
    pub seq: u64,
    /// When it was committed, by the database's clock.
    pub at_ms: i64,
    /// Whether (conversation, sender, key) had been there before.
    pub duplicate: bool,
}

/// What other nodes said lately of the link through the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkReports {
    /// One of them hears the others.
    pub some_hear: bool,
    /// One of them does not.
    pub some_are_deaf: bool,
}

/// Why one message of a batch is not in the log although others of the batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The conversation is not, or no longer, there.
    #[error("no such conversation")]
    NoSuchConversation,
    /// The database refused this very message. It has been logged.
    #[error("the database refused the message")]
    Refused,
    /// The database went away before it was the message's turn, or while it was. Try again.
    #[error("the database is not available")]
    Unavailable,
}

impl AppendError {
    /// What an error of a batch means for each of its messages.
    pub(crate) fn of_batch(error: &Error) -> Self {
        if error.is_transient() { Self::Unavailable } else { Self::Refused }
    }
}

/// A message as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number in its conversation, from 1, without holes.
    pub seq: u64,
    /// The message's id.
    pub id: uuid::Uuid,
    /// The user that it stands under.
    pub sender: UserName,
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
    /// Compact JSON object.
    pub metadata: Option<String>,
    /// When it was committed.
    pub at_ms: i64,
}

/// Which part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest.
    Newest,
    /// The newest of those with a smaller number.
    Before(u64),
    /// The oldest of those with a larger number.
    After(u64),
}

/// A part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ascending by number.
    pub messages: Vec<Message>,
    /// Whether there are further ones in the direction of reading (older ones for `Newest` and `Before`).
    pub more: bool,
}

/// A conversation to be made.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// Whose.
    pub tenant: TenantName,
    /// Its name, unique in the tenant.
    pub conversation: ConversationName,
    /// Its owner, who becomes a member.
    pub owner: UserName,
    /// Shown to people.
    pub title: Option<String>,
    /// Compact JSON object.
    pub metadata: Option<String>,
    /// Further members.
    pub members: Vec<UserName>,
}

/// What became of a [`NewConversation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The conversation's id, new or old.
    pub id: ConversationId,
    /// `false`: there was one of that name; nothing was changed.
    pub created: bool,
    /// Whether the would-be owner is a member of the one that is there.
    pub member: bool,
}

/// What became of adding or removing a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersChange {
    /// `false`: it was so already.
    pub changed: bool,
    /// How often the conversation's members have changed by now: see [`Conversation::members_version`].
    pub version: u64,
    /// Who owns the conversation now. One whose owner left is handed on to the member who joined first.
    pub owner: UserName,
}

/// Where a conversation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationHead {
    /// Its number in the database.
    pub id: ConversationId,
    /// Newest number, 0 when empty.
    pub head: u64,
    /// How often its members have changed: see [`Conversation::members_version`].
    pub members_version: u64,
    /// How often its title or metadata have changed: see [`Conversation::details_version`].
    pub details_version: u64,
    /// Which log it is: see [`Conversation::log`].
    pub log: String,
}

/// A conversation with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its number in the database.
    pub id: ConversationId,
    /// Its name.
    pub conversation: ConversationName,
    /// Who made it.
    pub owner: UserName,
    /// Shown to people.
    pub title: Option<String>,
    /// Compact JSON object.
    pub metadata: Option<String>,
    /// When it was made.
    pub created_at_ms: i64,
    /// Newest number, 0 when empty.
    pub head: u64,
    /// Everybody in it, ascending by user.
    pub members: Vec<Member>,
    /// How often somebody was added or removed since it was made. Each change raises it by one in its own transaction, so that
    /// whoever hears of changes late, twice, swapped or not at all can tell.
    pub members_version: u64,
    /// How often title or metadata have changed since it was made.
    pub details_version: u64,
    /// Which log it is, at most 32 characters out of `0-9 a-z -`. Another one when the conversation is deleted and made again, and when
    /// the database was restored to an earlier state; begins with the database's [incarnation](incarnation_of).
    pub log: String,
}

/// The database's incarnation that a conversation's log belongs to.
pub fn incarnation_of(log: &str) -> &str {
    log.split_once('-').map_or(log, |(incarnation, _)| incarnation)
}

/// Somebody in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// Newest number that they marked as read, 0 for none.
    pub read: u64,
}

/// Up to where somebody has read.
#[derive(Clone, Debug)]
pub struct ReadMark {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserName,
    /// Up to and with this number.
    pub seq: u64,
}

/// A row of somebody's conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSummary {
    /// Its number in the database.
    pub id: ConversationId,
    /// Its name.
    pub conversation: ConversationName,
    /// Who made it.
    pub owner: UserName,
    /// Shown to people.
    pub title: Option<String>,
    /// Compact JSON object.
    pub metadata: Option<String>,
    /// When it was made.
    pub created_at_ms: i64,
    /// Newest number, 0 when empty.
    pub head: u64,
}

/// A page of somebody's conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationList {
    /// Newest activity first.
    pub conversations: Vec<ConversationSummary>,
    /// Where to go on, `None` at the end.
    pub next: Option<ListCursor>,
}

/// Where a page of conversations ended: (time of the last activity, id), both descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// When something was last written there.
    pub active_at_ms: i64,
    /// The conversation's id.
    pub id: ConversationId,
}

/// When a user was last there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// Whose user.
    pub tenant: TenantName,
    /// Who.
    pub user: UserName,
    /// When.
    pub at_ms: i64,
}

/// What became of adding a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// They are a member now, or were one already.
    Member(MembersChange),
    /// The conversation has as many members as it may have; nothing changed.
    Full,
}

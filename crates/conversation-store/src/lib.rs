//! The durable log: conversations, members, messages, read marks and users' last-seen times.
//!
//! The rest of Starling uses the trait [`ConversationStore`]. [`postgres`] and [`sqlite`] implement it, and `tests/conformance` runs one
//! suite against both. The log in the database is the source of truth: an [`Appended`] is returned only after the transaction of its
//! message was committed.

mod address;
mod batch;
mod metrics;
mod model;
pub mod postgres;
mod schema;
pub mod sqlite;

pub use address::connect;
pub use model::*;
pub use schema::SCHEMA;
pub use starling_database::{Error, PoolStatus, SchemaStatus};
pub use starling_model::{ConversationId, Seq};

use std::time::Duration;

use async_trait::async_trait;
use starling_model::{ConversationName, TenantName, UserName};

/// The most ended sessions that are read at once.
pub const ENDED_SESSIONS_MAX: u32 = 10_000;

/// The durable log of conversations.
///
/// Every method may be retried after an [`Error`] whose [`Error::is_transient`] is true.
#[async_trait]
pub trait ConversationStore: Send + Sync + 'static {
    /// Brings the schema up to date, under a lock, so that many nodes may start at once.
    async fn migrate(&self) -> Result<(), Error>;

    /// Checks that the database can be used: it is reachable and of a supported version, and its schema is not too new for this program.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a wrong version or a schema that is too new.
    async fn check(&self) -> Result<(), Error> {
        self.ping().await
    }

    /// Returns how the schema compares with the one that this program knows. [`Self::migrate`] has nothing to do unless it is behind.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a schema that is too new.
    async fn schema_status(&self) -> Result<SchemaStatus, Error>;

    /// Returns the incarnation of the database. If the database turns out to be a restored dump, another one begins.
    async fn incarnation(&self) -> Result<String, Error>;

    /// Reports that the database once had messages up to `known` in the log `log` of this conversation. Returns true if it has fewer now:
    /// then it was set back to an earlier state, and another incarnation has begun.
    async fn report_head(&self, id: ConversationId, known: Seq, log: &str) -> Result<bool, Error>;

    /// Begins another incarnation, because an operator said that the database was restored. Returns the new one.
    async fn reincarnate(&self) -> Result<String, Error>;

    /// Numbers and inserts a batch of messages, in one transaction and one round trip. If the database refuses single messages, it takes
    /// more transactions, so that only those messages fail, with [`AppendError::Refused`].
    ///
    /// The answers are in the order of `batch`. Within a conversation, the numbers follow the order of the batch without a hole. A message
    /// is a duplicate if one with the same conversation, sender and key is in the log or earlier in the batch. It is not inserted again,
    /// and its answer is that of the first one, with `duplicate: true`.
    ///
    /// # Errors
    /// If the whole batch fails. Then the caller must not assume that any of it was committed. A retry with the same keys is safe.
    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error>;

    /// Returns messages with [`Append::announced`] that were not forgotten, those of a conversation in order.
    async fn announced(&self, limit: u16) -> Result<Vec<Announced>, Error>;

    /// Forgets announcements of messages, by their positions.
    async fn forget_announced(&self, positions: &[i64]) -> Result<(), Error>;

    /// Creates a conversation with its owner as first member, unless it exists. Returns `None` if it does not exist and the tenant has
    /// `conversations_max` conversations (0: no limit). The conversations are counted in the transaction that creates, so concurrent
    /// callers on all nodes together stay within the limit.
    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error>;

    /// Creates a conversation, unless it exists, without a limit.
    async fn create(&self, new: &NewConversation) -> Result<Created, Error> {
        let created = self.create_within(new, 0).await?;
        created.ok_or_else(|| Error::Refused("a limit was met where there is none".into()))
    }

    /// Returns a conversation with all its members and their read marks; `None` if there is no such conversation.
    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error>;

    /// Returns these conversations with all their members and read marks, in any order, without those that do not exist. One query.
    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error>;

    /// Returns the heads of these conversations, without those that do not exist. One query.
    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error>;

    /// Returns a range of the log, ascending by number. The page ends early, with `more: true`, before its contents and metadata exceed
    /// `bytes_max`, but has at least one message if there is one. With `fresh` the primary answers; otherwise a read replica may.
    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        fresh: bool,
    ) -> Result<Page, Error>;

    /// Raises read marks. A mark never falls and never exceeds the conversation's head. Returns, in the order of the batch, the new value of
    /// each mark that rose. It is `None` if the mark was as high already, if the user is no member, or if the database refused this one of
    /// several.
    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error>;

    /// Adds a member, unless the conversation has `members_max` members (0: no limit). The members are counted in the transaction that
    /// adds, so concurrent callers on all nodes together stay within the limit. If the change is `announced`, it is noted in the same
    /// transaction for [`Self::announced_members`]. Returns `None` if there is no such conversation.
    async fn add_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
        announced: bool,
    ) -> Result<Option<Added>, Error>;

    /// Adds a member by [`Self::add_member_and_note`], of which nobody is told.
    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
    ) -> Result<Option<Added>, Error> {
        self.add_member_and_note(id, user, members_max, false).await
    }

    /// Adds a member without a limit. Returns `None` if there is no such conversation.
    async fn add_member(&self, id: ConversationId, user: &UserName) -> Result<Option<MembersChange>, Error> {
        match self.add_member_within(id, user, 0).await? {
            None => Ok(None),
            Some(Added::Member(change)) => Ok(Some(change)),
            Some(Added::Full) => Err(Error::Refused("a limit was met where there is none".into())),
        }
    }

    /// Removes a member. If the change is `announced`, it is noted in the same transaction for [`Self::announced_members`]. Returns `None`
    /// if there is no such conversation.
    async fn remove_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        announced: bool,
    ) -> Result<Option<MembersChange>, Error>;

    /// Removes a member by [`Self::remove_member_and_note`], of which nobody is told.
    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error> {
        self.remove_member_and_note(id, user, false).await
    }

    /// Returns announced changes of members that were not forgotten, those of a conversation in order.
    async fn announced_members(&self, limit: u16) -> Result<Vec<AnnouncedMember>, Error>;

    /// Forgets announcements of changes of members, by their positions.
    async fn forget_announced_members(&self, positions: &[i64]) -> Result<(), Error>;

    /// Changes title and metadata: `None` keeps the value, `Some(None)` removes it. Returns false if there is no such conversation.
    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error>;

    /// Deletes a conversation, at once for all users. Its messages can't be read any more, but stay in the database until
    /// [`erase`](Self::erase) removes them. Returns false if there is no such conversation.
    async fn delete(&self, id: ConversationId) -> Result<bool, Error>;

    /// Erases some of the messages of deleted conversations, for some tens of milliseconds. Returns whether there may be more.
    async fn erase(&self) -> Result<bool, Error>;

    /// Returns a page of the conversations that `user` is a member of, newest activity first.
    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error>;

    /// Returns whether two users share a conversation.
    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error>;

    /// Returns the number of a tenant's conversations, counted no further than `at_most`.
    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error>;

    /// Notes the times at which users were last seen. A later time that is stored already stays. Times that the database refuses are left
    /// out.
    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error>;

    /// Returns the times at which these users of a tenant were last seen, without those who never were.
    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error>;

    /// Notes that a session was ended, and removes those that were ended longer ago than `kept`.
    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error>;

    /// Returns the sessions that were ended within this time by the database's clock, the latest first, at most [`ENDED_SESSIONS_MAX`].
    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error>;

    /// Returns those of these sessions that were ended. One query.
    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error>;

    /// Returns those of these conversations that `user` is a member of. One query.
    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        conversations: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error>;

    /// Reports whether a node hears the other nodes through the broker (`None` reports nothing), and returns what the others reported in
    /// the last few seconds. A store that only one node can use knows no others.
    async fn compare_links(&self, node: &str, hears: Option<bool>) -> Result<LinkReports, Error> {
        let _ = (node, hears);
        Ok(LinkReports::default())
    }

    /// Makes one cheap round trip to the primary, as a health check.
    async fn ping(&self) -> Result<(), Error>;

    /// Prepares the database for a stop, after which nothing is written: an SQLite file is then complete without its `-wal` file. Nothing
    /// is lost if this is not called.
    async fn close(&self) {}

    /// Returns the state of the connection pools, for health and metrics.
    fn pools(&self) -> Vec<PoolStatus>;
}

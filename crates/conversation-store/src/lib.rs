//! The durable log: conversations, members, messages, read marks and users' last-seen times.
//!
//! [`ConversationStore`] is what the rest of Starling knows; [`postgres`] and [`sqlite`] are its two
//! implementations, and `tests/conformance` runs one suite against both. The log in the database is the
//! truth: an [`Appended`] is returned only after the transaction that holds the message has committed.

mod address;
mod batch;
mod metrics;
mod model;
pub mod postgres;
mod schema;
pub mod sqlite;

pub use address::connect;
pub use model::*;
pub use starling_database::{Error, PoolStatus};

use std::time::Duration;

use async_trait::async_trait;
use starling_model::{ConversationName, TenantName, UserName};

/// How many ended sessions are read at once.
pub const ENDED_SESSIONS_MAX: u32 = 10_000;

/// The durable log of conversations.
///
/// Every method may be retried after an [`Error`] whose [`Error::is_transient`] is true.
#[async_trait]
pub trait ConversationStore: Send + Sync + 'static {
    /// Brings the schema up to date (under a lock, so that many nodes may start at once).
    async fn migrate(&self) -> Result<(), Error>;

    /// Whether the database is there and usable: reachable, of a version that Starling can use, and its schema not
    /// newer than this program knows. [`Error::Unsupported`] where it is not.
    async fn check(&self) -> Result<(), Error> {
        self.ping().await
    }

    /// Whether the schema is up to date, so that [`Self::migrate`] would have nothing to do.
    async fn is_migrated(&self) -> Result<bool, Error>;

    /// Which life of the database this is. Another one begins where the database turns out to be a dump that was restored.
    async fn incarnation(&self) -> Result<String, Error>;

    /// Tells the database that it once said that this conversation has messages up to `known`, in the log `log`. `Ok(true)`: it has
    /// fewer now, so it was set back to an earlier state, and another incarnation has begun.
    async fn report_head(&self, id: ConversationId, known: u64, log: &str) -> Result<bool, Error>;

    /// Begins another incarnation: an operator says that the database was restored. Answers the new one.
    async fn reincarnate(&self) -> Result<String, Error>;

    /// Numbers and inserts a batch in one transaction and one round trip. Where the database refuses it because of single
    /// messages, in as many as it takes for these alone to fail, each with [`AppendError::Refused`].
    ///
    /// The answers stand in the order of `batch`. Within a conversation the numbers follow the order of the
    /// batch, without a hole. A message whose (conversation, sender, key) exists, in the log or earlier in the
    /// same batch, is not inserted again: its answer is that of the first, with `duplicate: true`.
    /// `Err` for the whole: nothing of the batch may be taken as committed (a retry with the same keys is safe).
    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error>;

    /// Creates a conversation with its owner as first member; tells if it was there already. `Ok(None)`: it was not, and the
    /// tenant has `conversations_max` conversations (0: no limit). Counted in the transaction that creates, so that concurrent
    /// callers on all nodes together stay within the limit.
    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error>;

    /// Creates a conversation, however many its tenant has.
    async fn create(&self, new: &NewConversation) -> Result<Created, Error> {
        let created = self.create_within(new, 0).await?;
        created.ok_or_else(|| Error::Refused("a limit was met where there is none".into()))
    }

    /// A conversation with all its members and their read marks, or `None`.
    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error>;

    /// These conversations with all their members and read marks, in one query, in any order; those that are gone are left
    /// out.
    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error>;

    /// Where each of these conversations stands, in one query; those that are gone are left out.
    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error>;

    /// A range of the log, ascending by number. Ends early, with `more: true`, before the page's
    /// contents and metadata exceed `bytes_max`, but holds at least one message if there is one.
    /// `fresh: true` reads from the primary, else a read replica may answer.
    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        fresh: bool,
    ) -> Result<Page, Error>;

    /// Raises read marks; a mark never falls and never passes the conversation's head. Answers in the order of the
    /// batch: the mark's new value if it rose, `None` if it stood there or above already, or no member, or if the database refused
    /// this one of several.
    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<u64>>, Error>;

    /// Adds a member, unless the conversation has `members_max` members (0: no limit). Counted in the transaction that adds, so
    /// that concurrent callers on all nodes together stay within the limit. `Ok(None)`: no such conversation.
    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
    ) -> Result<Option<Added>, Error>;

    /// Adds a member, however many there are. `Ok(None)`: no such conversation.
    async fn add_member(&self, id: ConversationId, user: &UserName) -> Result<Option<MembersChange>, Error> {
        match self.add_member_within(id, user, 0).await? {
            None => Ok(None),
            Some(Added::Member(change)) => Ok(Some(change)),
            Some(Added::Full) => Err(Error::Refused("a limit was met where there is none".into())),
        }
    }

    /// Removes a member. `Ok(None)`: no such conversation.
    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error>;

    /// Changes title and metadata; `None` leaves as is, `Some(None)` clears. `Ok(false)`: no such conversation.
    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error>;

    /// Deletes a conversation, at once for everybody. Its messages are out of reach then, and remain until
    /// [`erase`](Self::erase) has been there. `Ok(false)`: no such conversation.
    async fn delete(&self, id: ConversationId) -> Result<bool, Error>;

    /// Erases some of the messages of deleted conversations, for some tens of milliseconds. `Ok(true)`: there may be more.
    async fn erase(&self) -> Result<bool, Error>;

    /// The conversations that `user` is a member of, newest activity first.
    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error>;

    /// Whether two users share a conversation.
    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error>;

    /// How many conversations a tenant has, counting no further than `at_most`.
    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error>;

    /// Remembers when users were last seen; a later time stays. One statement for all, unless the database refuses some of them,
    /// which are left out then.
    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error>;

    /// When these users of a tenant were last seen; those never seen are left out.
    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error>;

    /// Writes down that a session was ended, and forgets those that were ended longer ago than `kept`.
    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error>;

    /// The sessions that were ended within this time by the database's clock, the latest first, [`ENDED_SESSIONS_MAX`] at most.
    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error>;

    /// Those of these sessions that were ended, in one query.
    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error>;

    /// Those of these conversations that `user` is a member of, in one query.
    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        conversations: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error>;

    /// Says of a node whether it hears the other nodes through the broker (`None`: says nothing), and answers what the others said
    /// in the last few seconds. A store that only one node can have knows of no others.
    async fn compare_links(&self, node: &str, hears: Option<bool>) -> Result<LinkReports, Error> {
        let _ = (node, hears);
        Ok(LinkReports::default())
    }

    /// One cheap round trip to the primary, to tell health.
    async fn ping(&self) -> Result<(), Error>;

    /// Puts the database in order for a stop, after which nothing is written any more: an SQLite file is complete then without its
    /// `-wal` file. Without it nothing is lost either.
    async fn close(&self) {}

    /// What the connection pools look like now, for health and metrics.
    fn pools(&self) -> Vec<PoolStatus>;
}

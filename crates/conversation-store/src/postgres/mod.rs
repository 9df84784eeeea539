//! The log in PostgreSQL, 15 or newer, for any number of nodes.
//!
//! It works through a PgBouncer in transaction mode, since it relies neither on the state of a session nor, by default, on named prepared
//! statements. Work of several statements is a function in the database (`migrations/postgres`), so that it takes one round trip and one
//! commit.

mod announced;
mod append;
mod config;
mod conversations;
mod ended;
mod incarnation;
mod members;
mod messages;
mod nodes;
mod opening;
mod pools;
mod users;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_database::Schema;
use starling_database::postgres::{LowWater, Pool, check, migrate, schema_status};

pub use config::PostgresConfig;

use starling_model::{ConversationName, TenantName, UserName};

use crate::metrics::{Metrics, Work};
use crate::schema::SCHEMA;
use crate::{
    Added, Announced, AnnouncedMember, Append, AppendError, Appended, Conversation, ConversationHead,
    ConversationId, ConversationList, ConversationStore, Created, Error, LastSeen, LinkReports, ListCursor,
    MembersChange, NewConversation, Page, PoolStatus, Range, ReadMark, SchemaStatus, Seq,
};
use opening::Opening;
use pools::Pools;

/// The log in PostgreSQL.
pub struct PostgresStore {
    pools: Arc<Pools>,
    opening: Arc<Opening>,
    metrics: Metrics,
    /// The migrations that this program knows.
    schema: &'static Schema,
    /// Where messages begin that backends are to be told of.
    announced_from: LowWater,
    /// Where changes of members begin that they are to be told of.
    members_from: LowWater,
}

impl PostgresStore {
    /// Makes a store, which connects to nothing yet: see [`check`](ConversationStore::check).
    ///
    /// Should be called within a Tokio runtime; otherwise idle connections are not closed.
    ///
    /// # Errors
    /// [`Error::Address`] if a URL or a file that it names can't be used.
    #[expect(clippy::needless_pass_by_value, reason = "a store is made of its configuration")]
    pub fn connect(config: PostgresConfig) -> Result<Self, Error> {
        let metrics = Metrics::new("postgres");
        let pools = Arc::new(Pools::new(&config, metrics.replica_fallbacks.clone())?);
        let opening = Opening::new(pools.clone());
        let (announced_from, members_from) = (LowWater::default(), LowWater::default());
        Ok(Self { pools, opening, metrics, schema: &SCHEMA, announced_from, members_from })
    }

    /// Takes these for the migrations that this program knows, instead of [`SCHEMA`].
    #[must_use]
    pub fn with_schema(self, schema: &'static Schema) -> Self {
        Self { schema, ..self }
    }

    /// Returns the connections to the primary, for what else is kept in the same database.
    #[must_use]
    pub fn database(&self) -> Pool {
        self.pools.primary.clone()
    }
}

#[async_trait]
impl ConversationStore for PostgresStore {
    async fn migrate(&self) -> Result<(), Error> {
        self.metrics.call(Work::Write, migrate(&self.pools.primary, self.schema)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.metrics.call(Work::Read, check(&self.pools.primary, self.schema)).await
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        self.metrics.call(Work::Read, schema_status(&self.pools.primary, self.schema)).await
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.metrics.call(Work::Read, incarnation::current(&self.pools.primary)).await
    }

    async fn report_head(&self, id: ConversationId, known: Seq, log: &str) -> Result<bool, Error> {
        self.metrics.call(Work::Write, incarnation::report_head(&self.pools.primary, id, known, log)).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        self.metrics.call(Work::Write, incarnation::renew(&self.pools.primary)).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.metrics.append(append::append(&self.pools.appends, batch)).await
    }

    async fn announced(&self, limit: u16) -> Result<Vec<Announced>, Error> {
        self.metrics
            .call(Work::Read, announced::announced(&self.pools.primary, limit, &self.announced_from))
            .await
    }

    async fn forget_announced(&self, positions: &[i64]) -> Result<(), Error> {
        self.metrics.call(Work::Write, announced::forget(&self.pools.primary, positions)).await
    }

    async fn announced_members(&self, limit: u16) -> Result<Vec<AnnouncedMember>, Error> {
        self.metrics
            .call(Work::Read, announced::members(&self.pools.primary, limit, &self.members_from))
            .await
    }

    async fn forget_announced_members(&self, positions: &[i64]) -> Result<(), Error> {
        self.metrics.call(Work::Write, announced::forget_members(&self.pools.primary, positions)).await
    }

    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error> {
        let call = conversations::create(&self.pools.primary, new, conversations_max);
        self.metrics.call(Work::Write, call).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        self.metrics.call(Work::Read, self.opening.open(tenant, conversation)).await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        self.metrics.call(Work::Read, conversations::open_many(&self.pools.primary, ids)).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        self.metrics.call(Work::Read, messages::heads(&self.pools.primary, ids)).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        fresh: bool,
    ) -> Result<Page, Error> {
        let call = messages::page(&self.pools, id, range, limit, bytes_max, fresh);
        self.metrics.call(Work::Read, call).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error> {
        self.metrics.call(Work::Write, members::mark_read(&self.pools.primary, batch)).await
    }

    async fn add_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
        announced: bool,
    ) -> Result<Option<Added>, Error> {
        self.metrics
            .call(Work::Write, members::add(&self.pools.primary, id, user, members_max, announced))
            .await
    }

    async fn remove_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        announced: bool,
    ) -> Result<Option<MembersChange>, Error> {
        self.metrics.call(Work::Write, members::remove(&self.pools.primary, id, user, announced)).await
    }

    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        let call = conversations::update(&self.pools.primary, id, title, metadata);
        self.metrics.call(Work::Write, call).await
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        self.metrics.call(Work::Write, conversations::delete(&self.pools.primary, id)).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        self.metrics.call(Work::Write, conversations::erase(&self.pools.primary)).await
    }

    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error> {
        let call = conversations::of_member(&self.pools, tenant, user, cursor, limit);
        self.metrics.call(Work::Read, call).await
    }

    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error> {
        self.metrics.call(Work::Read, members::share(&self.pools.primary, tenant, one, other)).await
    }

    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error> {
        self.metrics.call(Work::Read, conversations::count(&self.pools.primary, tenant, at_most)).await
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        self.metrics.call(Work::Write, users::touch(&self.pools.primary, batch)).await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error> {
        self.metrics.call(Work::Read, users::last_seen(&self.pools.primary, tenant, users)).await
    }

    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error> {
        self.metrics.call(Work::Write, ended::end(&self.pools.primary, session, kept)).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        self.metrics.call(Work::Read, ended::latest(&self.pools.primary, within)).await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        self.metrics.call(Work::Read, ended::among(&self.pools.primary, sessions)).await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error> {
        self.metrics.call(Work::Read, members::of(&self.pools.primary, tenant, user, names)).await
    }

    async fn compare_links(&self, node: &str, hears: Option<bool>) -> Result<LinkReports, Error> {
        self.metrics.call(Work::Read, nodes::compare_links(&self.pools.primary, node, hears)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        let call = async { self.pools.primary.rows("SELECT 1", &[]).await.map(drop) };
        self.metrics.call(Work::Read, call).await
    }

    fn pools(&self) -> Vec<PoolStatus> {
        self.pools.status()
    }
}

//! The log in one SQLite file, for a single node without other servers.
//!
//! Calls run on the threads of [`SqliteDatabase`], so that no thread of the asynchronous runtime ever waits for the disk.

mod announced;
mod append;
mod clock;
mod conversations;
mod ended;
mod incarnation;
mod members;
mod messages;
mod row;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_database::Schema;
use starling_database::sqlite::SqliteDatabase;

pub use starling_database::sqlite::{Durability, SqliteConfig};

use starling_model::{ConversationName, TenantName, UserName};

use crate::metrics::{Metrics, Work};
use crate::schema::SCHEMA;
use crate::{
    Added, Announced, AnnouncedMember, Append, AppendError, Appended, Conversation, ConversationHead,
    ConversationId, ConversationList, ConversationStore, Created, Error, LastSeen, ListCursor, MembersChange,
    NewConversation, Page, PoolStatus, Range, ReadMark, SchemaStatus, Seq,
};

/// The log in an SQLite file.
pub struct SqliteStore {
    database: Arc<SqliteDatabase>,
    metrics: Metrics,
    /// The migrations that this program knows.
    schema: &'static Schema,
}

impl SqliteStore {
    /// Opens the file. Creates it and its folder if they do not exist. `:memory:` is a database that ends with the store. Blocks on the
    /// disk for a moment.
    ///
    /// # Errors
    /// [`Error::Address`] if the file can't be created or read, is in use by another program, or is no database.
    pub fn open(path: impl AsRef<Path>, config: SqliteConfig) -> Result<Self, Error> {
        let database = Arc::new(SqliteDatabase::open(path.as_ref(), config)?);
        Ok(Self { database, metrics: Metrics::new("sqlite"), schema: &SCHEMA })
    }

    /// Takes these for the migrations that this program knows, instead of [`SCHEMA`].
    #[must_use]
    pub fn with_schema(self, schema: &'static Schema) -> Self {
        Self { schema, ..self }
    }

    /// Returns the open file, for what else is kept in it.
    #[must_use]
    pub fn database(&self) -> Arc<SqliteDatabase> {
        self.database.clone()
    }
}

#[async_trait]
impl ConversationStore for SqliteStore {
    async fn migrate(&self) -> Result<(), Error> {
        self.metrics.call(Work::Write, self.database.migrate(self.schema)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.schema_status().await.map(drop)
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        self.metrics.call(Work::Read, self.database.schema_status(self.schema)).await
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.metrics.call(Work::Read, self.database.read(incarnation::current)).await
    }

    async fn report_head(&self, id: ConversationId, known: Seq, log: &str) -> Result<bool, Error> {
        let log = log.to_owned();
        let call = self.database.write(move |database| incarnation::report_head(database, id, known, &log));
        self.metrics.call(Work::Write, call).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        self.metrics.call(Work::Write, self.database.write(incarnation::renew)).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.to_vec();
        self.metrics.append(self.database.write(move |database| append::append(database, &batch))).await
    }

    async fn announced(&self, limit: u16) -> Result<Vec<Announced>, Error> {
        let call = self.database.read(move |database| announced::announced(database, limit));
        self.metrics.call(Work::Read, call).await
    }

    async fn forget_announced(&self, positions: &[i64]) -> Result<(), Error> {
        let positions = positions.to_vec();
        let call = self.database.write(move |database| announced::forget(database, &positions));
        self.metrics.call(Work::Write, call).await
    }

    async fn announced_members(&self, limit: u16) -> Result<Vec<AnnouncedMember>, Error> {
        let call = self.database.read(move |database| announced::members(database, limit));
        self.metrics.call(Work::Read, call).await
    }

    async fn forget_announced_members(&self, positions: &[i64]) -> Result<(), Error> {
        let positions = positions.to_vec();
        let call = self.database.write(move |database| announced::forget_members(database, &positions));
        self.metrics.call(Work::Write, call).await
    }

    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error> {
        let new = new.clone();
        let call =
            self.database.write(move |database| conversations::create(database, &new, conversations_max));
        self.metrics.call(Work::Write, call).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        let (tenant, name) = (tenant.clone(), conversation.clone());
        let call = self.database.read(move |database| conversations::open(database, &tenant, &name));
        self.metrics.call(Work::Read, call).await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        let ids = ids.to_vec();
        let call = self.database.read(move |database| conversations::open_many(database, &ids));
        self.metrics.call(Work::Read, call).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        let ids = ids.to_vec();
        let call = self.database.read(move |database| messages::heads(database, &ids));
        self.metrics.call(Work::Read, call).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        _fresh: bool,
    ) -> Result<Page, Error> {
        let call = self.database.read(move |database| messages::page(database, id, range, limit, bytes_max));
        self.metrics.call(Work::Read, call).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error> {
        let batch = batch.to_vec();
        let call = self.database.write(move |database| members::mark_read(database, &batch));
        self.metrics.call(Work::Write, call).await
    }

    async fn add_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
        announced: bool,
    ) -> Result<Option<Added>, Error> {
        let user = user.clone();
        let call =
            self.database.write(move |database| members::add(database, id, &user, members_max, announced));
        self.metrics.call(Work::Write, call).await
    }

    async fn remove_member_and_note(
        &self,
        id: ConversationId,
        user: &UserName,
        announced: bool,
    ) -> Result<Option<MembersChange>, Error> {
        let user = user.clone();
        let call = self.database.write(move |database| members::remove(database, id, &user, announced));
        self.metrics.call(Work::Write, call).await
    }

    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        let call = self
            .database
            .write(move |database| conversations::update(database, id, title.as_ref(), metadata.as_ref()));
        self.metrics.call(Work::Write, call).await
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        let call = self.database.write(move |database| conversations::delete(database, id));
        self.metrics.call(Work::Write, call).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        self.metrics.call(Work::Write, self.database.write(conversations::erase)).await
    }

    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error> {
        let (tenant, user) = (tenant.clone(), user.clone());
        let call = self
            .database
            .read(move |database| conversations::of_member(database, &tenant, &user, cursor, limit));
        self.metrics.call(Work::Read, call).await
    }

    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error> {
        let (tenant, one, other) = (tenant.clone(), one.clone(), other.clone());
        let call = self.database.read(move |database| members::share(database, &tenant, &one, &other));
        self.metrics.call(Work::Read, call).await
    }

    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error> {
        let tenant = tenant.clone();
        let call = self.database.read(move |database| conversations::count(database, &tenant, at_most));
        self.metrics.call(Work::Read, call).await
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        let batch = batch.to_vec();
        let call = self.database.write(move |database| users::touch(database, &batch));
        self.metrics.call(Work::Write, call).await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error> {
        let (tenant, users) = (tenant.clone(), users.to_vec());
        let call = self.database.read(move |database| users::last_seen(database, &tenant, &users));
        self.metrics.call(Work::Read, call).await
    }

    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error> {
        let session = session.to_owned();
        let call = self.database.write(move |database| ended::end(database, &session, kept));
        self.metrics.call(Work::Write, call).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        let call = self.database.read(move |database| ended::latest(database, within));
        self.metrics.call(Work::Read, call).await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        let sessions = sessions.to_vec();
        let call = self.database.read(move |database| ended::among(database, &sessions));
        self.metrics.call(Work::Read, call).await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error> {
        let (tenant, user, names) = (tenant.clone(), user.clone(), names.to_vec());
        let call = self.database.read(move |database| members::of(database, &tenant, &user, &names));
        self.metrics.call(Work::Read, call).await
    }

    async fn ping(&self) -> Result<(), Error> {
        let call = self.database.read(|database| Ok(database.query_row("SELECT 1", [], |_| Ok(()))?));
        self.metrics.call(Work::Read, call).await
    }

    async fn close(&self) {
        if let Err(error) = self.database.checkpoint().await {
            tracing::warn!(%error, "the database file is not complete without its -wal file; keep both together");
        }
    }

    fn pools(&self) -> Vec<PoolStatus> {
        self.database.pools().into()
    }
}

//! The log in one SQLite file, for a single node with nothing beside it.
//!
//! One thread writes and a few read, so that no thread of the asynchronous runtime ever waits for the disk.

mod append;
mod clock;
mod config;
mod conversations;
mod ended;
mod error;
mod file;
mod incarnation;
mod members;
mod messages;
mod path;
mod queue;
mod readers;
mod row;
mod schema;
mod users;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use config::{Durability, SqliteConfig};
pub use path::path_of;

use starling_model::{ConversationName, TenantName, UserName};

use crate::instruments::{Instruments, Work};
use crate::{
    Added, Append, AppendError, Appended, Conversation, ConversationHead, ConversationId, ConversationList,
    ConversationStore, Created, Error, LastSeen, ListCursor, MembersChange, NewConversation, Page,
    PoolStatus, Range, ReadMark,
};
use file::DatabaseFile;
use readers::Readers;
use writer::Writer;

/// The log in an SQLite file.
pub struct SqliteStore {
    readers: Readers,
    /// Closed last, because it puts the write-ahead log in order then.
    writer: Writer,
    file: Arc<DatabaseFile>,
    instruments: Instruments,
}

impl SqliteStore {
    /// Opens the file, and makes it and its folder where there is none. `:memory:` is a database that is gone with
    /// the store. Waits for the disk for a moment.
    ///
    /// # Errors
    /// [`Error::Address`] if the file can't be used: not to be made or read, in use by another program, or no database.
    pub fn open(path: impl AsRef<Path>, config: SqliteConfig) -> Result<Self, Error> {
        let SqliteConfig { durability, readers, queue_max, call_timeout } = config;
        let queue_max = queue_max.max(1);
        let file = Arc::new(DatabaseFile::claim(path.as_ref())?);
        let writer = file.writer(durability)?;
        let connections = (0..readers.max(1)).map(|_| file.reader()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            readers: Readers::start(connections, &file, queue_max, call_timeout)?,
            writer: Writer::start(writer, Arc::clone(&file), queue_max, call_timeout)?,
            file,
            instruments: Instruments::new("sqlite"),
        })
    }
}

#[async_trait]
impl ConversationStore for SqliteStore {
    async fn migrate(&self) -> Result<(), Error> {
        self.instruments.call(Work::Write, self.writer.write(schema::migrate)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.instruments.call(Work::Read, self.readers.read(schema::check)).await
    }

    async fn is_migrated(&self) -> Result<bool, Error> {
        self.instruments.call(Work::Read, self.readers.read(schema::is_current)).await
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.instruments.call(Work::Read, self.readers.read(incarnation::current)).await
    }

    async fn report_head(&self, id: ConversationId, known: u64, log: &str) -> Result<bool, Error> {
        let log = log.to_owned();
        let call = self.writer.write(move |database| incarnation::report_head(database, id, known, &log));
        self.instruments.call(Work::Write, call).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        self.instruments.call(Work::Write, self.writer.write(incarnation::renew)).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = batch.to_vec();
        self.instruments.append(self.writer.write(move |database| append::append(database, &batch))).await
    }

    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error> {
        let new = new.clone();
        let call =
            self.writer.write(move |database| conversations::create(database, &new, conversations_max));
        self.instruments.call(Work::Write, call).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        let (tenant, name) = (tenant.clone(), conversation.clone());
        let call = self.readers.read(move |database| conversations::open(database, &tenant, &name));
        self.instruments.call(Work::Read, call).await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        let ids = ids.to_vec();
        let call = self.readers.read(move |database| conversations::open_many(database, &ids));
        self.instruments.call(Work::Read, call).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        let ids = ids.to_vec();
        let call = self.readers.read(move |database| messages::heads(database, &ids));
        self.instruments.call(Work::Read, call).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        _fresh: bool,
    ) -> Result<Page, Error> {
        let call = self.readers.read(move |database| messages::page(database, id, range, limit, bytes_max));
        self.instruments.call(Work::Read, call).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<u64>>, Error> {
        let batch = batch.to_vec();
        let call = self.writer.write(move |database| members::mark_read(database, &batch));
        self.instruments.call(Work::Write, call).await
    }

    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
    ) -> Result<Option<Added>, Error> {
        let user = user.clone();
        let call = self.writer.write(move |database| members::add(database, id, &user, members_max));
        self.instruments.call(Work::Write, call).await
    }

    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error> {
        let user = user.clone();
        let call = self.writer.write(move |database| members::remove(database, id, &user));
        self.instruments.call(Work::Write, call).await
    }

    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        let call = self
            .writer
            .write(move |database| conversations::update(database, id, title.as_ref(), metadata.as_ref()));
        self.instruments.call(Work::Write, call).await
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        let call = self.writer.write(move |database| conversations::delete(database, id));
        self.instruments.call(Work::Write, call).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        self.instruments.call(Work::Write, self.writer.write(conversations::erase)).await
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
            .readers
            .read(move |database| conversations::of_member(database, &tenant, &user, cursor, limit));
        self.instruments.call(Work::Read, call).await
    }

    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error> {
        let (tenant, one, other) = (tenant.clone(), one.clone(), other.clone());
        let call = self.readers.read(move |database| members::share(database, &tenant, &one, &other));
        self.instruments.call(Work::Read, call).await
    }

    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error> {
        let tenant = tenant.clone();
        let call = self.readers.read(move |database| conversations::count(database, &tenant, at_most));
        self.instruments.call(Work::Read, call).await
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        let batch = batch.to_vec();
        let call = self.writer.write(move |database| users::touch(database, &batch));
        self.instruments.call(Work::Write, call).await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error> {
        let (tenant, users) = (tenant.clone(), users.to_vec());
        let call = self.readers.read(move |database| users::last_seen(database, &tenant, &users));
        self.instruments.call(Work::Read, call).await
    }

    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error> {
        let session = session.to_owned();
        let call = self.writer.write(move |database| ended::end(database, &session, kept));
        self.instruments.call(Work::Write, call).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        let call = self.readers.read(move |database| ended::latest(database, within));
        self.instruments.call(Work::Read, call).await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        let sessions = sessions.to_vec();
        let call = self.readers.read(move |database| ended::among(database, &sessions));
        self.instruments.call(Work::Read, call).await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error> {
        let (tenant, user, names) = (tenant.clone(), user.clone(), names.to_vec());
        let call = self.readers.read(move |database| members::of(database, &tenant, &user, &names));
        self.instruments.call(Work::Read, call).await
    }

    async fn ping(&self) -> Result<(), Error> {
        let call = self.readers.read(|database| Ok(database.query_row("SELECT 1", [], |_| Ok(()))?));
        self.instruments.call(Work::Read, call).await
    }

    async fn close(&self) {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || file.checkpoint()).await;
        if let Err(error) = done.map_err(|error| Error::Unavailable(error.to_string())).and_then(|done| done)
        {
            tracing::warn!(%error, "the database file lacks what stands in its -wal file; keep both together");
        }
    }

    fn pools(&self) -> Vec<PoolStatus> {
        vec![self.writer.status(), self.readers.status()]
    }
}

//! The log in PostgreSQL, 15 or newer, for any number of nodes.
//!
//! Nothing here relies on a session's state or, by default, on named prepared statements, so that a PgBouncer in
//! transaction mode may stand between. What needs several statements is a function in the database
//! (`migrations/postgres`), which makes it one round trip and one commit.

mod append;
mod config;
mod conversations;
mod database;
mod dsn;
mod ended;
mod error;
mod hosts;
mod incarnation;
mod members;
mod messages;
mod nodes;
mod outage;
mod row;
mod schema;
mod tls;
mod tls_stream;
mod users;

use std::time::Duration;

use async_trait::async_trait;

pub use config::PostgresConfig;

use starling_model::{ConversationName, TenantName, UserName};

use crate::instruments::{Instruments, Work};
use crate::{
    Added, Append, AppendError, Appended, Conversation, ConversationHead, ConversationId, ConversationList,
    ConversationStore, Created, Error, LastSeen, LinkReports, ListCursor, MembersChange, NewConversation,
    Page, PoolStatus, Range, ReadMark,
};
use database::{Database, Parameter};
use row::Rows;

/// The log in PostgreSQL.
pub struct PostgresStore {
    /// For messages alone, so that no read takes the connections that sends need.
    appends: Database,
    primary: Database,
    /// For reads that need not be fresh.
    replica: Option<Database>,
    instruments: Instruments,
}

impl PostgresStore {
    /// Reads the URLs and builds the pools. Connects to nothing yet: ask [`check`](ConversationStore::check).
    ///
    /// Belongs into a Tokio runtime; otherwise idle connections are not closed.
    ///
    /// # Errors
    /// [`Error::Address`] if a URL or a file that it names can't be used.
    #[expect(clippy::needless_pass_by_value, reason = "a store is made of its configuration")]
    pub fn connect(config: PostgresConfig) -> Result<Self, Error> {
        let appends_max = config.append_pool_size();
        let primary_max = config.pool_size_max.saturating_sub(appends_max);
        let primary = Database::new("primary", &config.url, &config, primary_max)?;
        let appends = Database::new("appends", &config.url, &config, appends_max)?.beside(&primary);
        let replica = match &config.read_url {
            Some(url) => Some(Database::new("replica", url, &config, config.pool_size_max)?),
            None => None,
        };
        Ok(Self { appends, primary, replica, instruments: Instruments::new("postgres") })
    }

    /// Rows from the replica, or from the primary where there is none or it fails.
    async fn stale_rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Rows, Error> {
        if let Some(replica) = &self.replica {
            match replica.rows(sql, parameters).await {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    tracing::debug!(%error, "the read replica failed; asking the primary");
                    self.instruments.replica_fallbacks.increment(1);
                }
            }
        }
        self.primary.rows(sql, parameters).await
    }
}

#[async_trait]
impl ConversationStore for PostgresStore {
    async fn migrate(&self) -> Result<(), Error> {
        self.instruments.call(Work::Write, schema::migrate(&self.primary)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.instruments.call(Work::Read, schema::check(&self.primary)).await
    }

    async fn is_migrated(&self) -> Result<bool, Error> {
        self.instruments.call(Work::Read, schema::is_current(&self.primary)).await
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.instruments.call(Work::Read, incarnation::current(&self.primary)).await
    }

    async fn report_head(&self, id: ConversationId, known: u64, log: &str) -> Result<bool, Error> {
        self.instruments.call(Work::Write, incarnation::report_head(&self.primary, id, known, log)).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        self.instruments.call(Work::Write, incarnation::renew(&self.primary)).await
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.instruments.append(append::append(&self.appends, batch)).await
    }

    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error> {
        let call = conversations::create(&self.primary, new, conversations_max);
        self.instruments.call(Work::Write, call).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        self.instruments.call(Work::Read, conversations::open(&self.primary, tenant, conversation)).await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        self.instruments.call(Work::Read, conversations::open_many(&self.primary, ids)).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        self.instruments.call(Work::Read, messages::heads(&self.primary, ids)).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        fresh: bool,
    ) -> Result<Page, Error> {
        let call = messages::page(self, id, range, limit, bytes_max, fresh);
        self.instruments.call(Work::Read, call).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<u64>>, Error> {
        self.instruments.call(Work::Write, members::mark_read(&self.primary, batch)).await
    }

    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
    ) -> Result<Option<Added>, Error> {
        self.instruments.call(Work::Write, members::add(&self.primary, id, user, members_max)).await
    }

    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error> {
        self.instruments.call(Work::Write, members::remove(&self.primary, id, user)).await
    }

    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        let call = conversations::update(&self.primary, id, title, metadata);
        self.instruments.call(Work::Write, call).await
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        self.instruments.call(Work::Write, conversations::delete(&self.primary, id)).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        self.instruments.call(Work::Write, conversations::erase(&self.primary)).await
    }

    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error> {
        let call = conversations::of_member(self, tenant, user, cursor, limit);
        self.instruments.call(Work::Read, call).await
    }

    async fn share_conversation(
        &self,
        tenant: &TenantName,
        one: &UserName,
        other: &UserName,
    ) -> Result<bool, Error> {
        self.instruments.call(Work::Read, members::share(&self.primary, tenant, one, other)).await
    }

    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error> {
        self.instruments.call(Work::Read, conversations::count(&self.primary, tenant, at_most)).await
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        self.instruments.call(Work::Write, users::touch(&self.primary, batch)).await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error> {
        self.instruments.call(Work::Read, users::last_seen(&self.primary, tenant, users)).await
    }

    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error> {
        self.instruments.call(Work::Write, ended::end(&self.primary, session, kept)).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        self.instruments.call(Work::Read, ended::latest(&self.primary, within)).await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        self.instruments.call(Work::Read, ended::among(&self.primary, sessions)).await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[ConversationName],
    ) -> Result<Vec<ConversationName>, Error> {
        self.instruments.call(Work::Read, members::of(&self.primary, tenant, user, names)).await
    }

    async fn compare_links(&self, node: &str, hears: Option<bool>) -> Result<LinkReports, Error> {
        self.instruments.call(Work::Read, nodes::compare_links(&self.primary, node, hears)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        let call = async { self.primary.rows("SELECT 1", &[]).await.map(drop) };
        self.instruments.call(Work::Read, call).await
    }

    fn pools(&self) -> Vec<PoolStatus> {
        [&self.appends, &self.primary].into_iter().chain(&self.replica).map(Database::status).collect()
    }
}

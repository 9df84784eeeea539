//! A log that commits too late, does not recognise retries, or panics.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use starling_conversation_store::{
    Added, Append, AppendError, Appended, Conversation, ConversationHead, ConversationId, ConversationList,
    ConversationStore, Created, Error, LastSeen, LinkReports, ListCursor, MembersChange, NewConversation,
    Page, PoolStatus, Range, ReadMark, Seq,
};
use starling_model::{ConversationName, TenantName, UserName};
use tokio_postgres::NoTls;

use crate::Sabotage;

/// The time from the answer to the commit, if the answer comes first.
const COMMIT_DELAY: Duration = Duration::from_millis(300);

/// A layer before the log of the node.
pub struct FaultyLog {
    inner: Arc<dyn ConversationStore>,
    sabotage: Sabotage,
}

impl FaultyLog {
    /// Stands before the real log.
    pub fn new(inner: Arc<dyn ConversationStore>, sabotage: Sabotage) -> Self {
        Self { inner, sabotage }
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if self.sabotage == Sabotage::Panic {
            panic!("a panic on purpose, about {batch:?}");
        }
        if self.sabotage == Sabotage::EarlyOk {
            let late = append_late(batch).await;
            return late.map_err(|error| Error::Unavailable(format!("{error:#}")));
        }
        let with_new_key = |message: &Append| {
            let key = uuid::Uuid::new_v4().to_string();
            Append { key, ..message.clone() }
        };
        self.inner.append(&batch.iter().map(with_new_key).collect::<Vec<_>>()).await
    }
}

/// Implements the trait: `append` as above, and these methods by the real log.
macro_rules! forward {
    ($(fn $method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[async_trait]
        impl ConversationStore for FaultyLog {
            async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
                self.append(batch).await
            }

            fn pools(&self) -> Vec<PoolStatus> {
                self.inner.pools()
            }

            $(async fn $method(&self, $($argument: $type),*) -> $result {
                self.inner.$method($($argument),*).await
            })*
        }
    };
}

forward! {
    fn incarnation() -> Result<String, Error>;
    fn report_head(id: ConversationId, known: Seq, log: &str) -> Result<bool, Error>;
    fn reincarnate() -> Result<String, Error>;
    fn migrate() -> Result<(), Error>;
    fn check() -> Result<(), Error>;
    fn is_migrated() -> Result<bool, Error>;
    fn create_within(new: &NewConversation, conversations_max: u64) -> Result<Option<Created>, Error>;
    fn open(tenant: &TenantName, conversation: &ConversationName) -> Result<Option<Conversation>, Error>;
    fn open_many(ids: &[ConversationId]) -> Result<Vec<Conversation>, Error>;
    fn heads(ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error>;
    fn messages(id: ConversationId, range: Range, limit: u32, bytes_max: usize, fresh: bool) -> Result<Page, Error>;
    fn mark_read(batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error>;
    fn add_member_within(id: ConversationId, user: &UserName, members_max: u64) -> Result<Option<Added>, Error>;
    fn remove_member(id: ConversationId, user: &UserName) -> Result<Option<MembersChange>, Error>;
    fn update(id: ConversationId, title: Option<Option<String>>, metadata: Option<Option<String>>) -> Result<bool, Error>;
    fn delete(id: ConversationId) -> Result<bool, Error>;
    fn erase() -> Result<bool, Error>;
    fn conversations_of(tenant: &TenantName, user: &UserName, cursor: Option<ListCursor>, limit: u32) -> Result<ConversationList, Error>;
    fn share_conversation(tenant: &TenantName, one: &UserName, other: &UserName) -> Result<bool, Error>;
    fn count_conversations(tenant: &TenantName, at_most: u64) -> Result<u64, Error>;
    fn touch_users(batch: &[LastSeen]) -> Result<(), Error>;
    fn last_seen(tenant: &TenantName, users: &[UserName]) -> Result<Vec<LastSeen>, Error>;
    fn end_session(session: &str, kept: Duration) -> Result<(), Error>;
    fn ended_sessions(within: Duration) -> Result<Vec<String>, Error>;
    fn ended_among(sessions: &[String]) -> Result<Vec<String>, Error>;
    fn member_of(tenant: &TenantName, user: &UserName, names: &[ConversationName]) -> Result<Vec<ConversationName>, Error>;
    fn compare_links(node: &str, hears: Option<bool>) -> Result<LinkReports, Error>;
    fn ping() -> Result<(), Error>;
}

/// Appends in a transaction that is committed only after the answer. The log ends up with what was answered, unless the node dies in
/// between.
async fn append_late(batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await?;
    let rows = client
        .query(
            "SELECT seq, id, duplicate FROM starling_append($1, $2, $3, $4, $5, $6, $7) ORDER BY item",
            &[
                &column(batch, |message| message.conversation.get()),
                &column(batch, |message| message.id),
                &column(batch, |message| &*message.sender),
                &column(batch, |message| message.key.as_str()),
                &column(batch, |message| message.role.as_str()),
                &column(batch, |message| &*message.content),
                &column(batch, |message| message.metadata.as_deref()),
            ],
        )
        .await?;
    tokio::spawn(async move {
        tokio::time::sleep(COMMIT_DELAY).await;
        client.batch_execute("COMMIT").await
    });
    let answer = |row: &tokio_postgres::Row| -> Result<Result<Appended, AppendError>> {
        Ok(match row.try_get::<_, Option<i64>>(0)? {
            Some(seq) => {
                let (id, duplicate) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Appended { id, seq: Seq::new(seq.try_into()?), at_ms: 0, duplicate })
            }
            None => Err(AppendError::NoSuchConversation),
        })
    };
    rows.iter().map(answer).collect()
}

fn column<'a, T>(batch: &'a [Append], of: impl Fn(&'a Append) -> T) -> Vec<T> {
    batch.iter().map(of).collect()
}

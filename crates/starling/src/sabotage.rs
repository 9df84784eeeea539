//! Faults put in on purpose, so that the checker of `cargo xtask torture` can be checked: a program that breaks each promise in the
//! way that the variable `STARLING_SABOTAGE` names. Built only with the feature `sabotage`, as `starling-sabotaged`; no other
//! program knows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use parking_lot::Mutex;
use starling_conversation_store::{
    Added, Append, AppendError, Appended, Conversation, ConversationHead, ConversationId, ConversationList,
    ConversationStore, Created, Error, LastSeen, LinkReports, ListCursor, MembersChange, NewConversation,
    Page, PoolStatus, Range, ReadMark,
};
use starling_hub::{Encoded, RoomId, ShardItem, Shards};
use starling_model::{ConversationName, TenantName, UserName};
use starling_wire::protocol;
use tokio_postgres::NoTls;

/// One message of so many is treated badly.
const EVERY: u64 = 20;
/// From the answer to the commit, where it comes after the answer.
const LATER: Duration = Duration::from_millis(300);

/// What is done badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A message is not shown to anybody who is there.
    Lose,
    /// A message is shown twice.
    Double,
    /// A message is shown after the one that follows it.
    Swap,
    /// A `send` is answered with `ok` first, and committed a little later.
    EarlyOk,
    /// A `send` repeated with its key becomes a second message.
    RetryTwice,
    /// A message is shown in another conversation, of whichever tenant.
    Leak,
}

impl Sabotage {
    /// What the variable `STARLING_SABOTAGE` wants.
    pub fn wanted() -> Result<Option<Sabotage>> {
        Ok(Some(match std::env::var("STARLING_SABOTAGE").unwrap_or_default().as_str() {
            "" => return Ok(None),
            "lose" => Sabotage::Lose,
            "double" => Sabotage::Double,
            "swap" => Sabotage::Swap,
            "early-ok" => Sabotage::EarlyOk,
            "retry-twice" => Sabotage::RetryTwice,
            "leak" => Sabotage::Leak,
            other => bail!(
                "STARLING_SABOTAGE: `{other}` is none of lose, double, swap, early-ok, retry-twice, leak"
            ),
        }))
    }
}

/// Inboxes that treat some messages badly.
pub struct BadShards {
    inner: Arc<dyn Shards>,
    sabotage: Sabotage,
    count: AtomicU64,
    /// By shard and room: the event that is held back until the next one has been shown.
    held: Mutex<HashMap<(u16, RoomId), (u64, Arc<Encoded>)>>,
    /// A room that was seen before.
    another: Mutex<Option<RoomId>>,
}

impl BadShards {
    /// Stands before the true ones.
    pub fn before(inner: Arc<dyn Shards>, sabotage: Sabotage) -> Arc<dyn Shards> {
        let (count, held, another) = (AtomicU64::new(1), Mutex::default(), Mutex::default());
        Arc::new(BadShards { inner, sabotage, count, held, another })
    }

    fn message(&self, shard: u16, room: RoomId, seq: u64, event: Arc<Encoded>) -> bool {
        let post = |seq, event| self.inner.post(shard, ShardItem::Message { room, seq, event });
        let chosen = || self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY);
        match self.sabotage {
            Sabotage::Lose if chosen() => {
                let user = "nobody".into();
                let nothing = protocol::Typing { conversation: "nowhere".into(), user, typing: false };
                post(seq, Arc::new(Encoded::new(nothing)))
            }
            Sabotage::Double if chosen() => {
                let again = ShardItem::Ephemeral { room, event: event.clone(), except: None };
                post(seq, event) && self.inner.post(shard, again)
            }
            Sabotage::Swap => {
                let mut held = self.held.lock();
                match held.remove(&(shard, room)) {
                    // The numbers go on as they must; what stands under them does not.
                    Some((before, earlier)) => post(before, event) && post(seq, earlier),
                    None if chosen() => held.insert((shard, room), (seq, event)).is_none(),
                    None => post(seq, event),
                }
            }
            Sabotage::Leak => {
                let another = self.another.lock().replace(room).filter(|another| *another != room);
                if let Some(another) = another.filter(|_| chosen()) {
                    let leak = ShardItem::Ephemeral { room: another, event: event.clone(), except: None };
                    self.inner.post(shard, leak);
                }
                post(seq, event)
            }
            _ => post(seq, event),
        }
    }
}

impl Shards for BadShards {
    fn post(&self, shard: u16, item: ShardItem) -> bool {
        match item {
            ShardItem::Message { room, seq, event } => self.message(shard, room, seq, event),
            item => self.inner.post(shard, item),
        }
    }
}

/// A log that commits too late, or does not know retries.
pub struct BadLog {
    inner: Arc<dyn ConversationStore>,
    sabotage: Sabotage,
}

impl BadLog {
    /// Stands before the true one.
    pub fn before(inner: Arc<dyn ConversationStore>, sabotage: Sabotage) -> Arc<dyn ConversationStore> {
        Arc::new(BadLog { inner, sabotage })
    }
}

/// Appends in a transaction, and commits it only after the answer. What stands in the log in the end is what was answered, unless the
/// node dies before.
async fn append_late(batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await?;
    let rows = client
        .query(
            "SELECT seq, id, duplicate FROM starling_append($1, $2, $3, $4, $5, $6, $7) ORDER BY item",
            &[
                &column(batch, |message| message.conversation),
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
        tokio::time::sleep(LATER).await;
        client.batch_execute("COMMIT").await
    });
    let answer = |row: &tokio_postgres::Row| -> Result<Result<Appended, AppendError>> {
        Ok(match row.try_get::<_, Option<i64>>(0)? {
            Some(seq) => {
                let (id, duplicate) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Appended { id, seq: seq.try_into()?, at_ms: 0, duplicate })
            }
            None => Err(AppendError::NoSuchConversation),
        })
    };
    rows.iter().map(answer).collect()
}

fn column<'a, T>(batch: &'a [Append], of: impl Fn(&'a Append) -> T) -> Vec<T> {
    batch.iter().map(of).collect()
}

#[async_trait]
impl ConversationStore for BadLog {
    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if self.sabotage == Sabotage::EarlyOk {
            let late = append_late(batch).await;
            return late.map_err(|error| Error::Unavailable(format!("{error:#}")));
        }
        let anew = |message: &Append| {
            let key = uuid::Uuid::new_v4().to_string();
            Append { key, ..message.clone() }
        };
        self.inner.append(&batch.iter().map(anew).collect::<Vec<_>>()).await
    }

    async fn incarnation(&self) -> Result<String, Error> {
        self.inner.incarnation().await
    }

    async fn report_head(&self, id: ConversationId, known: u64, log: &str) -> Result<bool, Error> {
        self.inner.report_head(id, known, log).await
    }

    async fn reincarnate(&self) -> Result<String, Error> {
        self.inner.reincarnate().await
    }

    async fn migrate(&self) -> Result<(), Error> {
        self.inner.migrate().await
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    async fn is_migrated(&self) -> Result<bool, Error> {
        self.inner.is_migrated().await
    }

    async fn create_within(
        &self,
        new: &NewConversation,
        conversations_max: u64,
    ) -> Result<Option<Created>, Error> {
        self.inner.create_within(new, conversations_max).await
    }

    async fn open(
        &self,
        tenant: &TenantName,
        conversation: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        self.inner.open(tenant, conversation).await
    }

    async fn open_many(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
        self.inner.open_many(ids).await
    }

    async fn heads(&self, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
        self.inner.heads(ids).await
    }

    async fn messages(
        &self,
        id: ConversationId,
        range: Range,
        limit: u32,
        bytes_max: usize,
        fresh: bool,
    ) -> Result<Page, Error> {
        self.inner.messages(id, range, limit, bytes_max, fresh).await
    }

    async fn mark_read(&self, batch: &[ReadMark]) -> Result<Vec<Option<u64>>, Error> {
        self.inner.mark_read(batch).await
    }

    async fn add_member_within(
        &self,
        id: ConversationId,
        user: &UserName,
        members_max: u64,
    ) -> Result<Option<Added>, Error> {
        self.inner.add_member_within(id, user, members_max).await
    }

    async fn remove_member(
        &self,
        id: ConversationId,
        user: &UserName,
    ) -> Result<Option<MembersChange>, Error> {
        self.inner.remove_member(id, user).await
    }

    async fn update(
        &self,
        id: ConversationId,
        title: Option<Option<String>>,
        metadata: Option<Option<String>>,
    ) -> Result<bool, Error> {
        self.inner.update(id, title, metadata).await
    }

    async fn delete(&self, id: ConversationId) -> Result<bool, Error> {
        self.inner.delete(id).await
    }

    async fn erase(&self) -> Result<bool, Error> {
        self.inner.erase().await
    }

    async fn conversations_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        cursor: Option<ListCursor>,
        limit: u32,
    ) -> Result<ConversationList, Error> {
        self.inner.conversations_of(tenant, user, cursor, limit).await
    }

    async fn share_conversation(&self, tenant: &TenantName, one: &str, other: &str) -> Result<bool, Error> {
        self.inner.share_conversation(tenant, one, other).await
    }

    async fn count_conversations(&self, tenant: &TenantName, at_most: u64) -> Result<u64, Error> {
        self.inner.count_conversations(tenant, at_most).await
    }

    async fn touch_users(&self, batch: &[LastSeen]) -> Result<(), Error> {
        self.inner.touch_users(batch).await
    }

    async fn last_seen(&self, tenant: &TenantName, users: &[String]) -> Result<Vec<LastSeen>, Error> {
        self.inner.last_seen(tenant, users).await
    }

    async fn end_session(&self, session: &str, kept: Duration) -> Result<(), Error> {
        self.inner.end_session(session, kept).await
    }

    async fn ended_sessions(&self, within: Duration) -> Result<Vec<String>, Error> {
        self.inner.ended_sessions(within).await
    }

    async fn ended_among(&self, sessions: &[String]) -> Result<Vec<String>, Error> {
        self.inner.ended_among(sessions).await
    }

    async fn member_of(
        &self,
        tenant: &TenantName,
        user: &UserName,
        names: &[String],
    ) -> Result<Vec<String>, Error> {
        self.inner.member_of(tenant, user, names).await
    }

    async fn compare_links(&self, node: &str, hears: Option<bool>) -> Result<LinkReports, Error> {
        self.inner.compare_links(node, hears).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.inner.ping().await
    }

    fn pools(&self) -> Vec<PoolStatus> {
        self.inner.pools()
    }
}

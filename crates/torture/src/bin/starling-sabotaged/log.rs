//! A log that writes or notes too late, does not recognise retries, or panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use starling_conversation_store::{
    Added, Announced, AnnouncedMember, Append, AppendError, Appended, Conversation, ConversationHead,
    ConversationId, ConversationList, ConversationStore, Created, Error, LastSeen, LinkReports, ListCursor,
    MembersChange, NewConversation, Page, PoolStatus, Range, ReadMark, SchemaStatus, Seq,
};
use starling_model::{ConversationName, TenantName, UserName};
use tokio_postgres::NoTls;

use crate::sabotage::Sabotage;

/// The time from the answer until the message is written, if the answer comes first: so long that at any moment some senders have read the
/// answers of messages that are not written, even on a busy machine.
const WRITE_DELAY: Duration = Duration::from_secs(5);
/// The time from the commit until a message is noted for webhooks, if that is not part of the transaction: longer than anybody needs to
/// kill the node.
const NOTE_DELAY: Duration = Duration::from_secs(30);
/// The answer about one batch in this many is lost, if retries are not recognised.
const ANSWER_LOST_EVERY: u64 = 8;

/// A layer before the log of the node.
pub struct FaultyLog {
    inner: Arc<dyn ConversationStore>,
    sabotage: Sabotage,
    /// How many batches there were.
    batches: AtomicU64,
}

impl FaultyLog {
    /// Stands before the real log.
    pub fn new(inner: Arc<dyn ConversationStore>, sabotage: Sabotage) -> Self {
        Self { inner, sabotage, batches: AtomicU64::new(0) }
    }

    async fn append(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        if self.sabotage == Sabotage::Panic {
            panic!("a panic on purpose, about {batch:?}");
        }
        if self.sabotage == Sabotage::EarlyOk {
            return self.append_late(batch).await;
        }
        if self.sabotage == Sabotage::TellLate {
            return self.append_and_note_late(batch).await;
        }
        let with_new_key = |message: &Append| {
            let key = uuid::Uuid::new_v4().to_string();
            Append { key, ..message.clone() }
        };
        let answers = self.inner.append(&batch.iter().map(with_new_key).collect::<Vec<_>>()).await?;
        if self.batches.fetch_add(1, Ordering::Relaxed) % ANSWER_LOST_EVERY == 1 {
            return Err(Error::Unavailable("the answer is lost on purpose".to_owned()));
        }
        Ok(answers)
    }

    /// Commits messages of which nobody is to be told, and notes later that somebody is. Webhooks are told of all of them, unless the node
    /// dies in between.
    async fn append_and_note_late(
        &self,
        batch: &[Append],
    ) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        let unnoted: Vec<Append> =
            batch.iter().map(|message| Append { announced: false, ..message.clone() }).collect();
        let answers = self.inner.append(&unnoted).await?;
        let late: Vec<(i64, i64)> = answers
            .iter()
            .zip(batch)
            .filter(|(_, message)| message.announced)
            .filter_map(|(answer, message)| {
                let seq = i64::try_from(answer.as_ref().ok()?.seq.get()).ok()?;
                Some((message.conversation.get(), seq))
            })
            .collect();
        tokio::spawn(async move {
            tokio::time::sleep(NOTE_DELAY).await;
            // What can't be noted is as if the node had died.
            let _ = note(&late).await;
        });
        Ok(answers)
    }

    /// Answers at once and writes later. Until then other messages have the numbers, so that no lock is held. The log ends up with what was
    /// answered, unless the node dies in between.
    async fn append_late(&self, batch: &[Append]) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        let placeholder = |message: &Append| Append {
            id: uuid::Uuid::now_v7(),
            content: format!("not written yet: {}", message.key).into(),
            ..message.clone()
        };
        let placeholders: Vec<Append> = batch.iter().map(placeholder).collect();
        let mut answers = self.inner.append(&placeholders).await?;
        let mut late = Vec::new();
        for ((answer, message), placeholder) in answers.iter_mut().zip(batch).zip(&placeholders) {
            if let Ok(answer) = answer
                && answer.id == placeholder.id
            {
                answer.id = message.id;
                late.push((placeholder.id, message.clone()));
            }
        }
        tokio::spawn(async move {
            tokio::time::sleep(WRITE_DELAY).await;
            // What can't be written is as if the node had died.
            let _ = write(&late).await;
        });
        Ok(answers)
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
    fn schema_status() -> Result<SchemaStatus, Error>;
    fn announced(limit: u16) -> Result<Vec<Announced>, Error>;
    fn forget_announced(positions: &[i64]) -> Result<(), Error>;
    fn create_within(new: &NewConversation, conversations_max: u64) -> Result<Option<Created>, Error>;
    fn open(tenant: &TenantName, conversation: &ConversationName) -> Result<Option<Conversation>, Error>;
    fn open_many(ids: &[ConversationId]) -> Result<Vec<Conversation>, Error>;
    fn heads(ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error>;
    fn messages(id: ConversationId, range: Range, limit: u32, bytes_max: usize, fresh: bool) -> Result<Page, Error>;
    fn mark_read(batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error>;
    fn add_member_and_note(id: ConversationId, user: &UserName, members_max: u64, announced: bool) -> Result<Option<Added>, Error>;
    fn remove_member_and_note(id: ConversationId, user: &UserName, announced: bool) -> Result<Option<MembersChange>, Error>;
    fn announced_members(limit: u16) -> Result<Vec<AnnouncedMember>, Error>;
    fn forget_announced_members(positions: &[i64]) -> Result<(), Error>;
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

/// Notes messages for webhooks.
async fn note(late: &[(i64, i64)]) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let (conversations, seqs): (Vec<i64>, Vec<i64>) = late.iter().copied().unzip();
    let insert = "INSERT INTO announced_messages (tenant, name, conversation_id, seq)
        SELECT c.tenant, c.name, c.id, late.seq FROM unnest($1::bigint[], $2::bigint[]) AS late (conversation_id, seq)
        JOIN conversations c ON c.id = late.conversation_id";
    client.execute(insert, &[&conversations, &seqs]).await?;
    Ok(())
}

/// Replaces placeholders, which are known by their ids, by these messages.
async fn write(late: &[(uuid::Uuid, Append)]) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let conversations: Vec<i64> = late.iter().map(|(_, message)| message.conversation.get()).collect();
    let placeholders: Vec<uuid::Uuid> = late.iter().map(|(placeholder, _)| *placeholder).collect();
    let ids: Vec<uuid::Uuid> = late.iter().map(|(_, message)| message.id).collect();
    let contents: Vec<&str> = late.iter().map(|(_, message)| &*message.content).collect();
    let update = "UPDATE messages m SET id = late.id, content = late.content
        FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[]) AS late (conversation_id, placeholder, id, content)
        WHERE m.conversation_id = late.conversation_id AND m.id = late.placeholder";
    client.execute(update, &[&conversations, &placeholders, &ids, &contents]).await?;
    Ok(())
}

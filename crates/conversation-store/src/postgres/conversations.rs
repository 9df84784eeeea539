//! Creating, reading, listing and deleting conversations.

use std::collections::HashMap;
use std::time::SystemTime;

use starling_database::postgres::{Parameter, Pool, column, to_ms, to_time};
use starling_model::UserName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::incarnation;
use super::pools::Pools;
use crate::batch::{from_database, seq_from_database, to_database};
use crate::{
    Conversation, ConversationId, ConversationList, ConversationSummary, Created, Error, ListCursor, Member,
    NewConversation,
};

/// The number of messages erased in one statement, which takes some tens of milliseconds.
const ERASE_MESSAGES_MAX: i64 = 5_000;

/// Selects conversations with their members and read marks, for [`conversation`].
macro_rules! with_members {
    ($which:literal) => {
        with_members!("", "", $which)
    };
    ($column:literal, $from:literal, $which:literal) => {
        concat!(
            "SELECT c.id, c.name, c.owner, c.title, c.metadata, c.created_at, c.head, m.users, m.reads,
                    c.members_version, c.details_version,
                    (SELECT starling_incarnation()) || '-' || coalesce(c.log, c.id::text)",
            $column,
            " FROM ",
            $from,
            "conversations c LEFT JOIN LATERAL (
                SELECT array_agg(user_name ORDER BY user_name) AS users,
                       array_agg(read_seq ORDER BY user_name) AS reads
                FROM members WHERE conversation_id = c.id
            ) m ON true WHERE ",
            $which
        )
    };
}

const CREATE: &str = "SELECT id, created, member FROM starling_create_within($1, $2, $3, $4, $5, $6, $7)";
const OPEN: &str = with_members!("c.tenant = $1 AND c.name = $2");
const OPEN_MANY: &str = with_members!("c.id = ANY($1)");
const OPEN_NAMED: &str = with_members!(
    ", item",
    "unnest($1, $2) WITH ORDINALITY AS g (g_tenant, g_name, item) CROSS JOIN ",
    "c.tenant = g_tenant AND c.name = g_name"
);
const UPDATE: &str = "
    UPDATE conversations SET title = CASE WHEN $2 THEN $3 ELSE title END,
                             metadata = CASE WHEN $4 THEN $5 ELSE metadata END
    WHERE id = $1 RETURNING id";
const DELETE: &str = "SELECT starling_delete($1)";
const ERASE: &str = "SELECT starling_erase($1)";
const OF_MEMBER: &str = "
    SELECT c.id, c.name, c.owner, c.title, c.metadata, c.created_at, c.head, c.active_at
    FROM members m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.tenant = $1 AND m.user_name = $2 AND ($3 IS NULL OR (c.active_at, c.id) < ($3, $4))
    ORDER BY c.active_at DESC, c.id DESC LIMIT $5";
const COUNT: &str = "SELECT count(*) FROM (SELECT FROM conversations WHERE tenant = $1 LIMIT $2) AS counted";

pub(super) async fn create(
    database: &Pool,
    new: &NewConversation,
    conversations_max: u64,
) -> Result<Option<Created>, Error> {
    let conversations_max = to_database(conversations_max);
    let members: Vec<&str> = new.members.iter().map(UserName::as_str).collect();
    let rows = database
        .write(
            CREATE,
            &[
                (&new.tenant.as_str(), Type::TEXT),
                (&new.conversation.as_str(), Type::TEXT),
                (&new.owner.as_str(), Type::TEXT),
                (&new.title, Type::TEXT),
                (&new.metadata, Type::TEXT),
                (&members, Type::TEXT_ARRAY),
                (&conversations_max, Type::INT8),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| Error::Refused("no answer to a creation".into()))?;
    let Some(id) = column(row, 0)? else { return Ok(None) };
    Ok(Some(Created { id: ConversationId::new(id), created: column(row, 1)?, member: column(row, 2)? }))
}

pub(super) async fn open(database: &Pool, tenant: &str, name: &str) -> Result<Option<Conversation>, Error> {
    let parameters: [Parameter<'_>; 2] = [(&tenant, Type::TEXT), (&name, Type::TEXT)];
    let rows = incarnation::rows_with_log(database, OPEN, &parameters, 11).await?;
    rows.first().map(conversation).transpose()
}

/// Returns those of these conversations, given by tenant and name, that exist, by their places in the list.
pub(super) async fn open_named(
    database: &Pool,
    names: &[(&str, &str)],
) -> Result<HashMap<usize, Conversation>, Error> {
    let (tenants, names): (Vec<&str>, Vec<&str>) = names.iter().copied().unzip();
    let parameters = [(&tenants as _, Type::TEXT_ARRAY), (&names as _, Type::TEXT_ARRAY)];
    let rows = incarnation::rows_with_log(database, OPEN_NAMED, &parameters, 11).await?;
    rows.iter()
        .map(|row| {
            let item = from_database(column(row, 12)?);
            let place = usize::try_from(item).unwrap_or(usize::MAX).saturating_sub(1);
            Ok((place, conversation(row)?))
        })
        .collect()
}

pub(super) async fn open_many(database: &Pool, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let rows = incarnation::rows_with_log(database, OPEN_MANY, &[(&ids, Type::INT8_ARRAY)], 11).await?;
    rows.iter().map(conversation).collect()
}

pub(super) async fn update(
    database: &Pool,
    id: ConversationId,
    title: Option<Option<String>>,
    metadata: Option<Option<String>>,
) -> Result<bool, Error> {
    let (set_title, set_metadata) = (title.is_some(), metadata.is_some());
    let rows = database
        .write(
            UPDATE,
            &[
                (&id.get(), Type::INT8),
                (&set_title, Type::BOOL),
                (&title.flatten(), Type::TEXT),
                (&set_metadata, Type::BOOL),
                (&metadata.flatten(), Type::TEXT),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Deletes a conversation, and notes that its messages must be erased.
pub(super) async fn delete(database: &Pool, id: ConversationId) -> Result<bool, Error> {
    let rows = database.write(DELETE, &[(&id.get(), Type::INT8)]).await?;
    Ok(rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or_default())
}

/// Erases some messages of a deleted conversation. A long log in one statement would hold locks and exceed the time of a statement.
pub(super) async fn erase(database: &Pool) -> Result<bool, Error> {
    let rows = database.write(ERASE, &[(&ERASE_MESSAGES_MAX, Type::INT8)]).await?;
    Ok(rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or_default())
}

pub(super) async fn of_member(
    pools: &Pools,
    tenant: &str,
    user: &str,
    cursor: Option<ListCursor>,
    limit: u32,
) -> Result<ConversationList, Error> {
    let active_at = cursor.map(|cursor| to_time(cursor.active_at_ms)).transpose()?;
    let id = cursor.map_or(0, |cursor| cursor.id.get());
    // One more than asked for, to learn whether there is another page.
    let look_at = i64::from(limit) + 1;
    let rows = pools
        .stale_rows(
            OF_MEMBER,
            &[
                (&tenant, Type::TEXT),
                (&user, Type::TEXT),
                (&active_at, Type::TIMESTAMPTZ),
                (&id, Type::INT8),
                (&look_at, Type::INT8),
            ],
        )
        .await?;
    let shown = rows.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
    let conversations = rows[..shown].iter().map(summary).collect::<Result<Vec<_>, _>>()?;
    let next = match rows[..shown].last() {
        Some(last) if rows.len() > shown => Some(ListCursor {
            active_at_ms: to_ms(column::<SystemTime>(last, 7)?),
            id: ConversationId::new(column(last, 0)?),
        }),
        _ => None,
    };
    Ok(ConversationList { conversations, next })
}

pub(super) async fn count(database: &Pool, tenant: &str, at_most: u64) -> Result<u64, Error> {
    let at_most = to_database(at_most);
    let rows = database.rows(COUNT, &[(&tenant, Type::TEXT), (&at_most, Type::INT8)]).await?;
    Ok(from_database(rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or_default()))
}

fn conversation(row: &Row) -> Result<Conversation, Error> {
    let users: Option<Vec<&str>> = column(row, 7)?;
    let reads: Option<Vec<i64>> = column(row, 8)?;
    let members = users.into_iter().flatten().zip(reads.into_iter().flatten());
    let ConversationSummary { id, conversation, owner, title, metadata, created_at_ms, head } = summary(row)?;
    Ok(Conversation {
        id,
        conversation,
        owner,
        title,
        metadata,
        created_at_ms,
        head,
        members: members
            .map(|(user, read)| Member { user: user.into(), read: seq_from_database(read) })
            .collect(),
        members_version: from_database(column(row, 9)?),
        details_version: from_database(column(row, 10)?),
        log: column(row, 11)?,
    })
}

fn summary(row: &Row) -> Result<ConversationSummary, Error> {
    Ok(ConversationSummary {
        id: ConversationId::new(column(row, 0)?),
        conversation: column::<&str>(row, 1)?.into(),
        owner: column::<&str>(row, 2)?.into(),
        title: column(row, 3)?,
        metadata: column(row, 4)?,
        created_at_ms: to_ms(column::<SystemTime>(row, 5)?),
        head: seq_from_database(column(row, 6)?),
    })
}

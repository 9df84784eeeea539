//! Creating, reading, listing and deleting conversations.

use rusqlite::{Connection, OptionalExtension, Row};

use super::clock::now_ms;
use super::row::text;
use crate::batch::{from_database, seq_from_database, to_database};
use crate::{
    Conversation, ConversationId, ConversationList, ConversationSummary, Created, Error, ListCursor, Member,
    NewConversation,
};

/// The number of messages erased at a time, which takes some tens of milliseconds.
const ERASE_MESSAGES_MAX: i64 = 5_000;

/// Selects a conversation, for [`opened`].
macro_rules! conversation {
    ($which:literal) => {
        concat!(
            "SELECT id, name, owner, title, metadata, created_at_ms, head, members_version, details_version,
                    (SELECT i.id FROM incarnation i) || '-' || coalesce(log, id)
            FROM conversations WHERE ",
            $which
        )
    };
}

const FIND: &str = "SELECT id FROM conversations WHERE tenant = ?1 AND name = ?2";
const IS_MEMBER: &str = "SELECT EXISTS (SELECT 1 FROM members WHERE conversation_id = ?1 AND user_name = ?2)";
const CREATE: &str = "
    INSERT INTO conversations (tenant, name, owner, title, metadata, created_at_ms, active_at_ms, log)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, lower(hex(randomblob(8))))";
const ADD_MEMBER: &str = "
    INSERT INTO members (conversation_id, user_name, tenant, joined_at_ms) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (conversation_id, user_name) DO NOTHING";
const OPEN: &str = conversation!("tenant = ?1 AND name = ?2");
const OPEN_ID: &str = conversation!("id = ?1");
const MEMBERS: &str = "SELECT user_name, read_seq FROM members WHERE conversation_id = ?1 ORDER BY user_name";
const UPDATE: &str = "
    UPDATE conversations SET title = CASE WHEN ?2 THEN ?3 ELSE title END,
                             metadata = CASE WHEN ?4 THEN ?5 ELSE metadata END,
                             details_version = details_version + 1
    WHERE id = ?1";
const DELETE: &str = "DELETE FROM conversations WHERE id = ?1";
const TO_ERASE: &str = "INSERT INTO erasures (conversation_id) VALUES (?1)";
const NEXT_TO_ERASE: &str = "SELECT conversation_id FROM erasures ORDER BY conversation_id LIMIT 1";
const ERASE: &str = "
    DELETE FROM messages WHERE conversation_id = ?1 AND seq IN (
        SELECT seq FROM messages WHERE conversation_id = ?1 ORDER BY seq LIMIT ?2)";
const ERASED: &str = "DELETE FROM erasures WHERE conversation_id = ?1";
const OF_MEMBER: &str = "
    SELECT c.id, c.name, c.owner, c.title, c.metadata, c.created_at_ms, c.head, c.active_at_ms
    FROM members m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.tenant = ?1 AND m.user_name = ?2 AND (?3 IS NULL OR (c.active_at_ms, c.id) < (?3, ?4))
    ORDER BY c.active_at_ms DESC, c.id DESC LIMIT ?5";
const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM conversations WHERE tenant = ?1 LIMIT ?2)";

pub(super) fn create(
    connection: &Connection,
    new: &NewConversation,
    conversations_max: u64,
) -> Result<Option<Created>, Error> {
    let found: Option<i64> = connection
        .prepare_cached(FIND)?
        .query_row((new.tenant.as_str(), new.conversation.as_str()), |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        let member =
            connection.prepare_cached(IS_MEMBER)?.query_row((id, new.owner.as_str()), |row| row.get(0))?;
        return Ok(Some(Created { id: ConversationId::new(id), created: false, member }));
    }
    if conversations_max > 0 && count(connection, &new.tenant, conversations_max)? >= conversations_max {
        return Ok(None);
    }
    let now_ms = now_ms();
    let id = connection.prepare_cached(CREATE)?.insert((
        new.tenant.as_str(),
        new.conversation.as_str(),
        new.owner.as_str(),
        &new.title,
        &new.metadata,
        now_ms,
    ))?;
    let mut add = connection.prepare_cached(ADD_MEMBER)?;
    for user in std::iter::once(&new.owner).chain(&new.members) {
        add.execute((id, user.as_str(), new.tenant.as_str(), now_ms))?;
    }
    Ok(Some(Created { id: ConversationId::new(id), created: true, member: true }))
}

pub(super) fn open(connection: &Connection, tenant: &str, name: &str) -> Result<Option<Conversation>, Error> {
    let found = connection.prepare_cached(OPEN)?.query_row((tenant, name), opened).optional()?;
    found.map(|found| with_members(connection, found)).transpose()
}

pub(super) fn open_many(connection: &Connection, ids: &[ConversationId]) -> Result<Vec<Conversation>, Error> {
    let mut statement = connection.prepare_cached(OPEN_ID)?;
    let mut found_all = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(found) = statement.query_row([id.get()], opened).optional()? {
            found_all.push(with_members(connection, found)?);
        }
    }
    Ok(found_all)
}

fn with_members(connection: &Connection, mut found: Conversation) -> Result<Conversation, Error> {
    let mut statement = connection.prepare_cached(MEMBERS)?;
    found.members = statement
        .query_map([found.id.get()], |row| {
            Ok(Member { user: text(row, 0)?.into(), read: seq_from_database(row.get(1)?) })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(found)
}

pub(super) fn update(
    connection: &Connection,
    id: ConversationId,
    title: Option<&Option<String>>,
    metadata: Option<&Option<String>>,
) -> Result<bool, Error> {
    let changes = (
        id.get(),
        title.is_some(),
        title.and_then(Option::as_ref),
        metadata.is_some(),
        metadata.and_then(Option::as_ref),
    );
    Ok(connection.prepare_cached(UPDATE)?.execute(changes)? > 0)
}

/// Deletes a conversation, and notes that its messages must be erased.
pub(super) fn delete(connection: &Connection, id: ConversationId) -> Result<bool, Error> {
    if connection.prepare_cached(DELETE)?.execute([id.get()])? == 0 {
        return Ok(false);
    }
    connection.prepare_cached(TO_ERASE)?.execute([id.get()])?;
    Ok(true)
}

/// Erases some of the messages of a deleted conversation. Returns whether there may be more to do.
pub(super) fn erase(connection: &Connection) -> Result<bool, Error> {
    let next: Option<i64> =
        connection.prepare_cached(NEXT_TO_ERASE)?.query_row([], |row| row.get(0)).optional()?;
    let Some(id) = next else { return Ok(false) };
    let erased = connection.prepare_cached(ERASE)?.execute((id, ERASE_MESSAGES_MAX))?;
    if i64::try_from(erased).is_ok_and(|erased| erased < ERASE_MESSAGES_MAX) {
        connection.prepare_cached(ERASED)?.execute([id])?;
    }
    Ok(true)
}

pub(super) fn of_member(
    connection: &Connection,
    tenant: &str,
    user: &str,
    cursor: Option<ListCursor>,
    limit: u32,
) -> Result<ConversationList, Error> {
    let (active_at_ms, id) = cursor.map(|cursor| (cursor.active_at_ms, cursor.id.get())).unzip();
    let mut statement = connection.prepare_cached(OF_MEMBER)?;
    // One more than asked for, to learn whether there is another page.
    let look_at = i64::from(limit) + 1;
    let mut rows = statement.query((tenant, user, active_at_ms, id, look_at))?;
    let (mut list, mut last) = (ConversationList::default(), None);
    while let Some(row) = rows.next()? {
        if list.conversations.len() == usize::try_from(limit).unwrap_or(usize::MAX) {
            list.next = last;
            break;
        }
        last = Some(ListCursor { active_at_ms: row.get(7)?, id: ConversationId::new(row.get(0)?) });
        list.conversations.push(summary(row)?);
    }
    Ok(list)
}

pub(super) fn count(connection: &Connection, tenant: &str, at_most: u64) -> Result<u64, Error> {
    let counted =
        connection.prepare_cached(COUNT)?.query_row((tenant, to_database(at_most)), |row| row.get(0))?;
    Ok(from_database(counted))
}

/// Reads a conversation without its members.
fn opened(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    let ConversationSummary { id, conversation, owner, title, metadata, created_at_ms, head } = summary(row)?;
    Ok(Conversation {
        id,
        conversation,
        owner,
        title,
        metadata,
        created_at_ms,
        head,
        members: Vec::new(),
        members_version: from_database(row.get(7)?),
        details_version: from_database(row.get(8)?),
        log: row.get(9)?,
    })
}

fn summary(row: &Row<'_>) -> rusqlite::Result<ConversationSummary> {
    Ok(ConversationSummary {
        id: ConversationId::new(row.get(0)?),
        conversation: text(row, 1)?.into(),
        owner: text(row, 2)?.into(),
        title: row.get(3)?,
        metadata: row.get(4)?,
        created_at_ms: row.get(5)?,
        head: seq_from_database(row.get(6)?),
    })
}

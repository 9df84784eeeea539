//! Reading the log.

use rusqlite::{Connection, OptionalExtension, Row};

use super::row::text;
use crate::batch::{from_database, seq_from_database, to_database};
use crate::{ConversationHead, ConversationId, Error, Message, Page, Range, Role};

const BEFORE: &str = "
    SELECT seq, id, sender, role, content, metadata, at_ms FROM messages
    WHERE conversation_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
const AFTER: &str = "
    SELECT seq, id, sender, role, content, metadata, at_ms FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
const HEAD: &str = "
    SELECT head, members_version, details_version, (SELECT i.id FROM incarnation i) || '-' || coalesce(log, id)
    FROM conversations WHERE id = ?1";

pub(super) fn page(
    connection: &Connection,
    id: ConversationId,
    range: Range,
    limit: u32,
    bytes_max: usize,
) -> Result<Page, Error> {
    let (sql, from, backwards) = match range {
        Range::Newest => (BEFORE, i64::MAX, true),
        Range::Before(seq) => (BEFORE, to_database(seq.get()), true),
        Range::After(seq) => (AFTER, to_database(seq.get()), false),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let look_at = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((id.get(), from, look_at))?;
    let (mut page, mut bytes) = (Page::default(), 0_usize);
    while let Some(row) = rows.next()? {
        let message = message(row)?;
        bytes += message.content.len() + message.metadata.as_ref().map_or(0, String::len);
        if page.messages.len() == limit || (bytes > bytes_max && !page.messages.is_empty()) {
            page.more = true;
            break;
        }
        page.messages.push(message);
    }
    if backwards {
        page.messages.reverse();
    }
    Ok(page)
}

pub(super) fn heads(connection: &Connection, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
    let mut heads = Vec::with_capacity(ids.len());
    let mut statement = connection.prepare_cached(HEAD)?;
    for id in ids {
        let head = |row: &Row<'_>| {
            Ok(ConversationHead {
                id: *id,
                head: seq_from_database(row.get(0)?),
                members_version: from_database(row.get(1)?),
                details_version: from_database(row.get(2)?),
                log: row.get(3)?,
            })
        };
        heads.extend(statement.query_row([id.get()], head).optional()?);
    }
    Ok(heads)
}

pub(super) fn message(row: &Row<'_>) -> Result<Message, Error> {
    let role = text(row, 3)?;
    Ok(Message {
        seq: seq_from_database(row.get(0)?),
        id: uuid::Uuid::from_bytes(row.get(1)?),
        sender: text(row, 2)?.into(),
        role: Role::parse(role).ok_or_else(|| Error::Refused(format!("{role:?} is no role")))?,
        content: row.get(4)?,
        metadata: row.get(5)?,
        at_ms: row.get(6)?,
    })
}

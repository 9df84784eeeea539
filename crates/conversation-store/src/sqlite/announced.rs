//! Messages and changes of members that backends are to be told of.

use rusqlite::{Connection, Row};

use super::clock::now_ms;
use super::messages::message;
use super::row::text;
use crate::{Announced, AnnouncedMember, ConversationId, Error};

const NOTE: &str = "
    INSERT INTO announced_messages (tenant, name, conversation_id, seq) SELECT tenant, name, id, ?2 FROM conversations WHERE id = ?1";
const ANNOUNCED: &str = "
    SELECT m.seq, m.id, m.sender, m.role, m.content, m.metadata, m.at_ms, a.position, a.tenant, a.name
    FROM announced_messages a LEFT JOIN messages m ON m.conversation_id = a.conversation_id AND m.seq = a.seq
    ORDER BY a.position LIMIT ?1";
const FORGET: &str = "DELETE FROM announced_messages WHERE position = ?1";
const NOTE_MEMBER: &str = "
    INSERT INTO announced_members (event, tenant, name, user_name, is_member, at_ms)
    SELECT randomblob(16), tenant, name, ?2, ?3, ?4 FROM conversations WHERE id = ?1";
const MEMBERS: &str = "SELECT position, event, tenant, name, user_name, is_member, at_ms FROM announced_members ORDER BY position LIMIT ?1";
const FORGET_MEMBERS: &str = "DELETE FROM announced_members WHERE position = ?1";

/// Notes a message in its transaction.
pub(super) fn note(connection: &Connection, conversation: ConversationId, seq: i64) -> Result<(), Error> {
    connection.prepare_cached(NOTE)?.execute((conversation.get(), seq))?;
    Ok(())
}

pub(super) fn announced(connection: &Connection, limit: u16) -> Result<Vec<Announced>, Error> {
    let mut statement = connection.prepare_cached(ANNOUNCED)?;
    let read = |row: &Row<'_>| {
        let has_message = row.get::<_, Option<i64>>(0)?.is_some();
        Ok(Announced {
            position: row.get(7)?,
            tenant: text(row, 8)?.into(),
            conversation: text(row, 9)?.into(),
            message: if has_message { Some(message(row)?) } else { None },
        })
    };
    let mut rows = statement.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let announced: Result<Announced, Error> = read(row);
        found.push(announced?);
    }
    Ok(found)
}

pub(super) fn forget(connection: &Connection, positions: &[i64]) -> Result<(), Error> {
    remove(connection, FORGET, positions)
}

/// Notes a change of members in its transaction.
pub(super) fn note_member(
    connection: &Connection,
    conversation: ConversationId,
    user: &str,
    is_member: bool,
) -> Result<(), Error> {
    let values = (conversation.get(), user, is_member, now_ms());
    connection.prepare_cached(NOTE_MEMBER)?.execute(values)?;
    Ok(())
}

pub(super) fn members(connection: &Connection, limit: u16) -> Result<Vec<AnnouncedMember>, Error> {
    let mut statement = connection.prepare_cached(MEMBERS)?;
    let mut rows = statement.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(AnnouncedMember {
            position: row.get(0)?,
            event: uuid::Uuid::from_bytes(row.get(1)?),
            tenant: text(row, 2)?.into(),
            conversation: text(row, 3)?.into(),
            user: text(row, 4)?.into(),
            is_member: row.get(5)?,
            at_ms: row.get(6)?,
        });
    }
    Ok(found)
}

pub(super) fn forget_members(connection: &Connection, positions: &[i64]) -> Result<(), Error> {
    remove(connection, FORGET_MEMBERS, positions)
}

fn remove(connection: &Connection, sql: &str, positions: &[i64]) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(sql)?;
    for position in positions {
        statement.execute([position])?;
    }
    Ok(())
}

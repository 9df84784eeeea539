//! Members of conversations, and their read marks.

use rusqlite::{Connection, OptionalExtension, Row};
use starling_model::ConversationName;

use super::announced;
use super::clock::now_ms;
use super::row::text;
use crate::batch::{Refusals, from_database, highest_marks, seq_from_database, to_database};
use crate::{Added, ConversationId, Error, MembersChange, ReadMark, Seq};

const ADD: &str = "
    INSERT INTO members (conversation_id, user_name, tenant, joined_at_ms)
    SELECT id, ?2, tenant, ?3 FROM conversations WHERE id = ?1
    ON CONFLICT (conversation_id, user_name) DO NOTHING";
const HAS_MEMBER: &str =
    "SELECT EXISTS (SELECT 1 FROM members WHERE conversation_id = ?1 AND user_name = ?2)";
const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM members WHERE conversation_id = ?1 LIMIT ?2)";
const REMOVE: &str = "DELETE FROM members WHERE conversation_id = ?1 AND user_name = ?2";
const VERSION: &str = "SELECT members_version, owner FROM conversations WHERE id = ?1";
/// Makes the member who joined first the owner, if the owner is no member any more. Without members the owner stays.
const COUNT_CHANGE: &str = "
    UPDATE conversations SET members_version = members_version + 1,
        owner = CASE WHEN EXISTS (SELECT 1 FROM members m WHERE m.conversation_id = ?1 AND m.user_name = owner) THEN owner
            ELSE coalesce((SELECT m.user_name FROM members m WHERE m.conversation_id = ?1
                           ORDER BY m.joined_at_ms, m.user_name LIMIT 1), owner) END
    WHERE id = ?1 RETURNING members_version, owner";
const SHARE: &str = "
    SELECT EXISTS (
        SELECT 1 FROM members a JOIN members b ON b.conversation_id = a.conversation_id
        WHERE a.tenant = ?1 AND a.user_name = ?2 AND b.tenant = ?1 AND b.user_name = ?3)";
const IS_MEMBER: &str = "
    SELECT 1 FROM conversations c JOIN members m ON m.conversation_id = c.id
    WHERE c.tenant = ?1 AND c.name = ?2 AND m.user_name = ?3";
const MARK: &str = "
    UPDATE members SET read_seq = min(?3, c.head) FROM conversations c
    WHERE members.conversation_id = ?1 AND members.user_name = ?2 AND c.id = ?1
      AND members.read_seq < min(?3, c.head)
    RETURNING read_seq";

/// Adds a member, unless the conversation is full.
pub(super) fn add(
    connection: &Connection,
    id: ConversationId,
    user: &str,
    members_max: u64,
    announced: bool,
) -> Result<Option<Added>, Error> {
    if members_max > 0 {
        let is_member: bool =
            connection.prepare_cached(HAS_MEMBER)?.query_row((id.get(), user), |row| row.get(0))?;
        let count: i64 = connection
            .prepare_cached(COUNT)?
            .query_row((id.get(), to_database(members_max)), |row| row.get(0))?;
        if !is_member && from_database(count) >= members_max {
            return Ok(Some(Added::Full));
        }
    }
    let changed = connection.prepare_cached(ADD)?.execute((id.get(), user, now_ms()))? > 0;
    if changed && announced {
        announced::note_member(connection, id, user, true)?;
    }
    Ok(count_change(connection, id, changed)?.map(Added::Member))
}

/// Removes a member.
pub(super) fn remove(
    connection: &Connection,
    id: ConversationId,
    user: &str,
    announced: bool,
) -> Result<Option<MembersChange>, Error> {
    let changed = connection.prepare_cached(REMOVE)?.execute((id.get(), user))? > 0;
    if changed && announced {
        announced::note_member(connection, id, user, false)?;
    }
    count_change(connection, id, changed)
}

/// Raises the members' version if there was a change.
fn count_change(
    connection: &Connection,
    id: ConversationId,
    changed: bool,
) -> Result<Option<MembersChange>, Error> {
    let version = if changed { COUNT_CHANGE } else { VERSION };
    let change = |row: &Row<'_>| {
        Ok(MembersChange { changed, version: from_database(row.get(0)?), owner: text(row, 1)?.into() })
    };
    Ok(connection.prepare_cached(version)?.query_row([id.get()], change).optional()?)
}

pub(super) fn share(connection: &Connection, tenant: &str, one: &str, other: &str) -> Result<bool, Error> {
    Ok(connection.prepare_cached(SHARE)?.query_row((tenant, one, other), |row| row.get(0))?)
}

/// Returns those of these conversations that a user is a member of.
pub(super) fn of(
    connection: &Connection,
    tenant: &str,
    user: &str,
    names: &[ConversationName],
) -> Result<Vec<ConversationName>, Error> {
    let mut statement = connection.prepare_cached(IS_MEMBER)?;
    let mut found = Vec::new();
    for name in names {
        if statement.query_row((tenant, name.as_str(), user), |_| Ok(())).optional()?.is_some() {
            found.push(name.clone());
        }
    }
    Ok(found)
}

/// Raises marks. A mark that the database refuses is left out, unless it is the only one.
pub(super) fn mark_read(connection: &Connection, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error> {
    let mut answers = vec![None; batch.len()];
    let mut statement = connection.prepare_cached(MARK)?;
    let (marks, mut refusals) = (highest_marks(batch), Refusals::default());
    for (position, mark) in &marks {
        let risen = statement
            .query_row((mark.conversation.get(), &*mark.user, to_database(mark.seq.get())), |row| row.get(0))
            .optional()
            .map_err(Error::from);
        match risen {
            Ok(risen) => answers[*position] = risen.map(seq_from_database),
            Err(error @ Error::Refused(_)) if marks.len() > 1 => refusals.note(error),
            Err(error) => return Err(error),
        }
    }
    refusals.log("read marks", batch.len());
    Ok(answers)
}

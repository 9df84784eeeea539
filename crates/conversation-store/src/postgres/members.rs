//! Members of conversations, and their read marks.

use starling_database::postgres::{Cause, Failed, Pool, column};
use starling_model::ConversationName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::batch::{Parts, Refusals, from_database, highest_marks, seq_from_database, to_database};
use crate::{Added, ConversationId, Error, MembersChange, ReadMark, Seq};

const ADD: &str = "SELECT changed, version, owner, is_full FROM starling_add_member($1, $2, $3)";
const REMOVE: &str = "SELECT changed, version, owner FROM starling_set_member($1, $2, false)";
/// The function locks the conversation, so that the notes of its changes are in their order.
const ADD_ANNOUNCED: &str = "
    WITH change AS MATERIALIZED (SELECT changed, version, owner, is_full FROM starling_add_member($1, $2, $3)), noted AS (
        INSERT INTO announced_members (tenant, name, user_name, is_member)
        SELECT c.tenant, c.name, $2, true FROM change JOIN conversations c ON c.id = $1 WHERE change.changed)
    SELECT changed, version, owner, is_full FROM change";
const REMOVE_ANNOUNCED: &str = "
    WITH change AS MATERIALIZED (SELECT changed, version, owner FROM starling_set_member($1, $2, false)), noted AS (
        INSERT INTO announced_members (tenant, name, user_name, is_member)
        SELECT c.tenant, c.name, $2, false FROM change JOIN conversations c ON c.id = $1 WHERE change.changed)
    SELECT changed, version, owner FROM change";
const SHARE: &str = "
    SELECT EXISTS (
        SELECT FROM members a JOIN members b ON b.conversation_id = a.conversation_id
        WHERE a.tenant = $1 AND a.user_name = $2 AND b.tenant = $1 AND b.user_name = $3)";
const MEMBER_OF: &str = "
    SELECT c.name FROM conversations c JOIN members m ON m.conversation_id = c.id
    WHERE c.tenant = $1 AND c.name = ANY ($3) AND m.user_name = $2";
// Takes the locks first, in the same order on all nodes. The update then reads the newest version of each row.
const MARK: &str = r#"
    WITH given AS (
        SELECT * FROM unnest($1, $2, $3) WITH ORDINALITY AS g (conversation_id, user_name, seq, item)
    ), locked AS (
        SELECT g.item, m.conversation_id, m.user_name, least(g.seq, c.head) AS seq
        FROM given g
        JOIN conversations c ON c.id = g.conversation_id
        JOIN members m ON m.conversation_id = g.conversation_id AND m.user_name = g.user_name COLLATE "C"
        WHERE m.read_seq < least(g.seq, c.head)
        ORDER BY m.conversation_id, m.user_name
        FOR NO KEY UPDATE OF m
    )
    UPDATE members m SET read_seq = l.seq FROM locked l
    WHERE m.conversation_id = l.conversation_id AND m.user_name = l.user_name AND m.read_seq < l.seq
    RETURNING l.item, m.read_seq"#;

/// Adds a member, unless the conversation is full.
pub(super) async fn add(
    database: &Pool,
    id: ConversationId,
    user: &str,
    members_max: u64,
    announced: bool,
) -> Result<Option<Added>, Error> {
    let members_max = to_database(members_max);
    let rows = database
        .write(
            if announced { ADD_ANNOUNCED } else { ADD },
            &[(&id.get(), Type::INT8), (&user, Type::TEXT), (&members_max, Type::INT8)],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(if column(row, 3)? { Added::Full } else { Added::Member(change(row)?) }))
}

/// Removes a member.
pub(super) async fn remove(
    database: &Pool,
    id: ConversationId,
    user: &str,
    announced: bool,
) -> Result<Option<MembersChange>, Error> {
    let remove = if announced { REMOVE_ANNOUNCED } else { REMOVE };
    let rows = database.write(remove, &[(&id.get(), Type::INT8), (&user, Type::TEXT)]).await?;
    rows.first().map(change).transpose()
}

fn change(row: &Row) -> Result<MembersChange, Error> {
    let version = from_database(column(row, 1)?);
    Ok(MembersChange { changed: column(row, 0)?, version, owner: column::<&str>(row, 2)?.into() })
}

pub(super) async fn share(database: &Pool, tenant: &str, one: &str, other: &str) -> Result<bool, Error> {
    let parameters = [&tenant, &one, &other].map(|name| (name as _, Type::TEXT));
    let rows = database.rows(SHARE, &parameters).await?;
    Ok(rows.first().map(|row| column(row, 0)).transpose()?.unwrap_or_default())
}

/// Returns those of these conversations that a user is a member of.
pub(super) async fn of(
    database: &Pool,
    tenant: &str,
    user: &str,
    names: &[ConversationName],
) -> Result<Vec<ConversationName>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = names.iter().map(ConversationName::as_str).collect();
    let parameters = [(&tenant as _, Type::TEXT), (&user as _, Type::TEXT), (&names as _, Type::TEXT_ARRAY)];
    let rows = database.rows(MEMBER_OF, &parameters).await?;
    rows.iter().map(|row| Ok(column::<&str>(row, 0)?.into())).collect()
}

/// Raises marks in one transaction. If that fails because of a row, takes several transactions, so that only the bad row fails.
pub(super) async fn mark_read(database: &Pool, batch: &[ReadMark]) -> Result<Vec<Option<Seq>>, Error> {
    let mut answers = vec![None; batch.len()];
    let marks = highest_marks(batch);
    let mut parts = Parts::of(marks.len(), database.statement_timeout());
    let mut refusals = Refusals::default();
    while let Some(part) = parts.next() {
        match mark_at_once(database, &marks[part.clone()], &mut answers).await {
            Ok(()) => {}
            Err(failed) if failed.cause == Cause::Row && parts.split(&part) => {}
            Err(failed) if failed.cause == Cause::Row && part.len() < marks.len() => {
                refusals.note(failed.error);
            }
            Err(failed) => return Err(failed.error),
        }
    }
    refusals.log("read marks", batch.len());
    Ok(answers)
}

/// Raises marks, and writes their new values to the answers.
async fn mark_at_once(
    database: &Pool,
    marks: &[(usize, &ReadMark)],
    answers: &mut [Option<Seq>],
) -> Result<(), Failed> {
    if marks.is_empty() {
        return Ok(());
    }
    let conversations: Vec<i64> = marks.iter().map(|(_, mark)| mark.conversation.get()).collect();
    let users: Vec<&str> = marks.iter().map(|(_, mark)| &*mark.user).collect();
    let seqs: Vec<i64> = marks.iter().map(|(_, mark)| to_database(mark.seq.get())).collect();
    let parameters = [
        (&conversations as _, Type::INT8_ARRAY),
        (&users as _, Type::TEXT_ARRAY),
        (&seqs as _, Type::INT8_ARRAY),
    ];
    for row in database.write(MARK, &parameters).await? {
        let item: i64 = column(&row, 0)?;
        let mark = usize::try_from(item - 1).ok().and_then(|item| marks.get(item));
        let (position, _) = mark.ok_or_else(|| Error::Refused(format!("no mark {item} was given")))?;
        answers[*position] = Some(seq_from_database(column(&row, 1)?));
    }
    Ok(())
}

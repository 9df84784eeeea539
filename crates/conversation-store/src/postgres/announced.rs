//! Messages and changes of members that backends are to be told of.

use starling_database::postgres::{LowWater, Parameter, Pool, Statement, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::messages::message;
use crate::{Announced, AnnouncedMember, Append, Error};

/// Notes the messages that this transaction has added. A message that was in the log before has another id there.
const NOTE: &str = "
    INSERT INTO announced_messages (tenant, name, conversation_id, seq)
    SELECT c.tenant, c.name, m.conversation_id, m.seq
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::uuid[]) WITH ORDINALITY g (conversation_id, sender, key, id, item)
    JOIN messages m ON m.conversation_id = g.conversation_id AND m.sender = g.sender COLLATE \"C\" AND m.key = g.key COLLATE \"C\"
        AND m.id = g.id
    JOIN conversations c ON c.id = m.conversation_id
    ORDER BY m.conversation_id, m.seq";
const ANNOUNCED: &str = "
    SELECT m.seq, m.id, m.sender, m.role, m.content, m.metadata, m.at, a.position, a.tenant, a.name
    FROM announced_messages a LEFT JOIN messages m ON m.conversation_id = a.conversation_id AND m.seq = a.seq
    WHERE a.position >= $2 ORDER BY a.position LIMIT $1";
const FORGET: &str = "DELETE FROM announced_messages WHERE position = ANY ($1)";
const MEMBERS: &str = "
    SELECT position, event, tenant, name, user_name, is_member, at FROM announced_members
    WHERE position >= $2 ORDER BY position LIMIT $1";
const FORGET_MEMBERS: &str = "DELETE FROM announced_members WHERE position = ANY ($1)";

/// The messages of a batch that are to be announced, as one array per column.
pub(super) struct ToAnnounce<'a> {
    conversations: Vec<i64>,
    senders: Vec<&'a str>,
    keys: Vec<&'a str>,
    ids: Vec<uuid::Uuid>,
}

impl<'a> ToAnnounce<'a> {
    pub fn of(batch: &[&'a Append]) -> Self {
        let of_batch = || batch.iter().filter(|message| message.announced);
        Self {
            conversations: of_batch().map(|message| message.conversation.get()).collect(),
            senders: of_batch().map(|message| &*message.sender).collect(),
            keys: of_batch().map(|message| &*message.key).collect(),
            ids: of_batch().map(|message| message.id).collect(),
        }
    }

    /// Returns the parameters of [`Self::statement`].
    pub fn parameters(&self) -> [Parameter<'_>; 4] {
        [
            (&self.conversations, Type::INT8_ARRAY),
            (&self.senders, Type::TEXT_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
        ]
    }

    /// Returns the statement that follows the append in its transaction; `None` if there is nothing to note.
    pub fn statement<'b>(&self, parameters: &'b [Parameter<'b>]) -> Option<Statement<'b>> {
        (!self.ids.is_empty()).then_some(Statement { sql: NOTE, parameters })
    }
}

pub(super) async fn announced(
    database: &Pool,
    limit: u16,
    begin: &LowWater,
) -> Result<Vec<Announced>, Error> {
    let rows = first(database, ANNOUNCED, limit, begin.position()).await?;
    begin.note(rows.first().map(|row| column(row, 7)).transpose()?);
    rows.iter()
        .map(|row| {
            Ok(Announced {
                position: column(row, 7)?,
                tenant: column::<&str>(row, 8)?.into(),
                conversation: column::<&str>(row, 9)?.into(),
                message: column::<Option<i64>>(row, 0)?.map(|_| message(row)).transpose()?,
            })
        })
        .collect()
}

async fn first(database: &Pool, sql: &str, limit: u16, begin: i64) -> Result<Vec<Row>, Error> {
    database.rows(sql, &[(&i64::from(limit), Type::INT8), (&begin, Type::INT8)]).await
}

pub(super) async fn forget(database: &Pool, positions: &[i64]) -> Result<(), Error> {
    database.write(FORGET, &[(&positions, Type::INT8_ARRAY)]).await?;
    Ok(())
}

pub(super) async fn members(
    database: &Pool,
    limit: u16,
    begin: &LowWater,
) -> Result<Vec<AnnouncedMember>, Error> {
    let rows = first(database, MEMBERS, limit, begin.position()).await?;
    begin.note(rows.first().map(|row| column(row, 0)).transpose()?);
    let member = |row: &Row| {
        Ok(AnnouncedMember {
            position: column(row, 0)?,
            event: column(row, 1)?,
            tenant: column::<&str>(row, 2)?.into(),
            conversation: column::<&str>(row, 3)?.into(),
            user: column::<&str>(row, 4)?.into(),
            is_member: column(row, 5)?,
            at_ms: to_ms(column(row, 6)?),
        })
    };
    rows.iter().map(member).collect()
}

pub(super) async fn forget_members(database: &Pool, positions: &[i64]) -> Result<(), Error> {
    database.write(FORGET_MEMBERS, &[(&positions, Type::INT8_ARRAY)]).await?;
    Ok(())
}

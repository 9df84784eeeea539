//! Reading the log.

use std::time::SystemTime;

use starling_database::postgres::{Parameter, Pool, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::incarnation;
use super::pools::Pools;
use crate::batch::{from_database, seq_from_database, to_database};
use crate::{ConversationHead, ConversationId, Error, Message, Page, Range, Role, Seq};

/// Selects a page of the log in one direction. It reads one message more than asked for, to learn whether there are more, and adds up sizes,
/// so that the database sends no more than the page may contain.
macro_rules! page {
    ($compare:literal, $direction:literal) => {
        concat!(
            "SELECT seq, id, sender, role, content, metadata, at, available FROM (
                SELECT m.*, count(*) OVER () AS available, row_number() OVER reading AS nth,
                       sum(octet_length(content) + coalesce(octet_length(metadata), 0)) OVER reading AS bytes
                FROM (SELECT * FROM messages WHERE conversation_id = $1 AND seq ",
            $compare,
            " $2 ORDER BY seq ",
            $direction,
            " LIMIT $3 + 1) m
                WINDOW reading AS (ORDER BY seq ",
            $direction,
            " ROWS UNBOUNDED PRECEDING)
            ) page WHERE nth <= $3 AND (nth = 1 OR bytes <= $4) ORDER BY seq"
        )
    };
}

const BEFORE: &str = page!("<", "DESC");
const AFTER: &str = page!(">", "ASC");
const HEADS: &str = "
    SELECT id, head, members_version, details_version,
           (SELECT starling_incarnation()) || '-' || coalesce(log, id::text)
    FROM conversations WHERE id = ANY ($1)";

pub(super) async fn page(
    pools: &Pools,
    id: ConversationId,
    range: Range,
    limit: u32,
    bytes_max: usize,
    fresh: bool,
) -> Result<Page, Error> {
    let (sql, from) = match range {
        Range::Newest => (BEFORE, i64::MAX),
        Range::Before(seq) => (BEFORE, to_database(seq.get())),
        Range::After(seq) => (AFTER, to_database(seq.get())),
    };
    let (limit, bytes_max) = (i64::from(limit), i64::try_from(bytes_max).unwrap_or(i64::MAX));
    let parameters: [Parameter<'_>; 4] =
        [(&id.get(), Type::INT8), (&from, Type::INT8), (&limit, Type::INT8), (&bytes_max, Type::INT8)];
    let mut rows = if fresh {
        pools.primary.rows(sql, &parameters).await?
    } else {
        pools.stale_rows(sql, &parameters).await?
    };
    if !fresh && is_behind(&rows, range)? {
        pools.note_fallback();
        rows = pools.primary.rows(sql, &parameters).await?;
    }
    let available = rows.first().map(|row| column::<i64>(row, 7)).transpose()?.unwrap_or_default();
    let messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    Ok(Page { more: i64::try_from(messages.len()).is_ok_and(|sent| sent < available), messages })
}

/// Returns whether these rows may come from a replica that lags. A log has no holes, so a page that reaches the requested limit is complete.
/// Any other page may lack messages, and would look like the end of the log.
fn is_behind(rows: &[Row], range: Range) -> Result<bool, Error> {
    let Range::Before(before) = range else { return Ok(false) };
    let newest =
        rows.last().map(|row| column::<i64>(row, 0)).transpose()?.map_or(Seq::ZERO, seq_from_database);
    Ok(before > Seq::ZERO.next() && newest.next() != before)
}

pub(super) async fn heads(database: &Pool, ids: &[ConversationId]) -> Result<Vec<ConversationHead>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let rows = incarnation::rows_with_log(database, HEADS, &[(&ids, Type::INT8_ARRAY)], 4).await?;
    let head = |row| {
        Ok(ConversationHead {
            id: ConversationId::new(column(row, 0)?),
            head: seq_from_database(column(row, 1)?),
            members_version: from_database(column(row, 2)?),
            details_version: from_database(column(row, 3)?),
            log: column(row, 4)?,
        })
    };
    rows.iter().map(head).collect()
}

pub(super) fn message(row: &Row) -> Result<Message, Error> {
    let role: &str = column(row, 3)?;
    Ok(Message {
        seq: seq_from_database(column(row, 0)?),
        id: column(row, 1)?,
        sender: column::<&str>(row, 2)?.into(),
        role: Role::parse(role).ok_or_else(|| Error::Refused(format!("{role:?} is no role")))?,
        content: column(row, 4)?,
        metadata: column(row, 5)?,
        at_ms: to_ms(column::<SystemTime>(row, 6)?),
    })
}

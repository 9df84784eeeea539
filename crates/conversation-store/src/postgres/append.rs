//! Numbering and inserting a batch of messages.

mod columns;
mod fresh;

use std::collections::BTreeSet;
use std::time::SystemTime;

use starling_database::postgres::{Cause, Failed, Pool, Statement, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use columns::Columns;

use super::announced::ToAnnounce;
use crate::batch::{Parts, Refusals, seq_from_database};
use crate::{Append, AppendError, Appended, Error};

/// Appends any messages. A changed function would get another name, so that old and new nodes can run side by side.
const APPEND: &str = "SELECT item, seq, id, at, duplicate FROM starling_append($1, $2, $3, $4, $5, $6, $7)";

/// Returns those of these conversations whose rows are not locked.
const FREE: &str = "
    SELECT id FROM conversations WHERE id IN (SELECT DISTINCT unnest($1)) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED";

/// Appends a batch in one transaction. If that fails because of a row, takes several transactions, so that only the bad row fails. If another
/// transaction locks a conversation's row for long, only the messages to that conversation fail.
pub(super) async fn append(
    database: &Pool,
    batch: &[Append],
) -> Result<Vec<Result<Appended, AppendError>>, Error> {
    let messages: Vec<&Append> = batch.iter().collect();
    match append_parts(database, &messages).await {
        Err(failed) if failed.cause == Cause::Lock => append_free(database, &messages).await,
        done => Ok(done?),
    }
}

/// Appends the messages to conversations that are not locked; then tries the others once more.
async fn append_free(
    database: &Pool,
    batch: &[&Append],
) -> Result<Vec<Result<Appended, AppendError>>, Error> {
    let ids: Vec<i64> = batch.iter().map(|message| message.conversation.get()).collect();
    let free = database.write(FREE, &[(&ids, Type::INT8_ARRAY)]).await?;
    let free = free.iter().map(|row| column(row, 0)).collect::<Result<BTreeSet<i64>, _>>()?;
    let mut answers = vec![Err(AppendError::Unavailable); batch.len()];
    let (first, second): (Vec<usize>, Vec<usize>) =
        (0..batch.len()).partition(|position| free.contains(&batch[*position].conversation.get()));
    let mut failure = None;
    for positions in [first, second] {
        let part: Vec<&Append> = positions.iter().map(|position| batch[*position]).collect();
        match append_parts(database, &part).await {
            Ok(appended) => {
                for (position, answer) in positions.into_iter().zip(appended) {
                    answers[position] = answer;
                }
            }
            // The messages of this part keep the answer to try again.
            Err(failed) => failure = Some(failed.error),
        }
    }
    match failure {
        Some(error) if answers.iter().all(|answer| *answer == Err(AppendError::Unavailable)) => Err(error),
        _ => Ok(answers),
    }
}

async fn append_parts(
    database: &Pool,
    batch: &[&Append],
) -> Result<Vec<Result<Appended, AppendError>>, Failed> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = Parts::of(batch.len(), database.statement_timeout());
    let mut answers = Vec::with_capacity(batch.len());
    let mut refusals = Refusals::default();
    while let Some(part) = parts.next() {
        match append_at_once(database, &batch[part.clone()]).await {
            Ok(appended) => answers.extend(appended),
            Err(failed) if failed.cause == Cause::Row && parts.split(&part) => {}
            // The part is one message, which the database refused.
            Err(failed) if failed.cause == Cause::Row && part.len() == 1 => {
                answers.push(Err(AppendError::of_batch(&failed.error)));
                refusals.note(failed.error);
            }
            // The whole batch failed.
            Err(failed) if answers.is_empty() && part.len() == batch.len() => return Err(failed),
            // The time is up for this part. Its messages may be good.
            Err(failed) if failed.cause == Cause::Row => {
                answers.extend(part.map(|_| Err(AppendError::Unavailable)));
                refusals.note(failed.error);
            }
            // The rest would fail for the same reason, after the same wait.
            Err(failed) => answers.resize(batch.len(), Err(AppendError::of_batch(&failed.error))),
        }
        if answers.len() == batch.len() {
            break;
        }
    }
    refusals.log("messages", batch.len());
    Ok(answers)
}

async fn append_at_once(
    database: &Pool,
    batch: &[&Append],
) -> Result<Vec<Result<Appended, AppendError>>, Failed> {
    match fresh::append(database, batch).await? {
        Some(appended) => Ok(appended),
        None => append_any(database, batch).await,
    }
}

/// Appends messages some of which may be in the log already, or belong to no conversation.
async fn append_any(
    database: &Pool,
    batch: &[&Append],
) -> Result<Vec<Result<Appended, AppendError>>, Failed> {
    let conversations: Vec<i64> = batch.iter().map(|message| message.conversation.get()).collect();
    let columns = Columns::of(batch);
    let append = Statement {
        sql: APPEND,
        parameters: &[
            (&conversations, Type::INT8_ARRAY),
            (&columns.ids, Type::UUID_ARRAY),
            (&columns.senders, Type::TEXT_ARRAY),
            (&columns.keys, Type::TEXT_ARRAY),
            (&columns.roles, Type::TEXT_ARRAY),
            (&columns.contents, Type::TEXT_ARRAY),
            (&columns.metadatas, Type::TEXT_ARRAY),
        ],
    };
    // Whatever must be committed with the messages is a further statement of this transaction.
    let announced = ToAnnounce::of(batch);
    let parameters = announced.parameters();
    let statements: Vec<Statement<'_>> =
        [append].into_iter().chain(announced.statement(&parameters)).collect();
    let answers = database.transaction(&statements).await?;
    let rows = answers.first().map_or(&[][..], Vec::as_slice);
    Ok(in_order(rows, batch.len())?)
}

/// Returns the answers in the order of the batch. Each row contains the position of its message.
fn in_order(rows: &[Row], messages: usize) -> Result<Vec<Result<Appended, AppendError>>, Error> {
    let incomplete = || Error::Refused(format!("{} answers to {messages} messages", rows.len()));
    let mut answers = vec![None; messages];
    for row in rows {
        let item: i64 = column(row, 0)?;
        let slot = usize::try_from(item - 1).ok().and_then(|position| answers.get_mut(position));
        *slot.ok_or_else(incomplete)? = Some(answer(row)?);
    }
    answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(incomplete)
}

fn answer(row: &Row) -> Result<Result<Appended, AppendError>, Error> {
    let Some(seq) = column::<Option<i64>>(row, 1)? else {
        return Ok(Err(AppendError::NoSuchConversation));
    };
    Ok(Ok(Appended {
        seq: seq_from_database(seq),
        id: column(row, 2)?,
        at_ms: to_ms(column::<SystemTime>(row, 3)?),
        duplicate: column(row, 4)?,
    }))
}

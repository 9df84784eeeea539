//! Appending messages that are new, as nearly all are.

use std::ops::Range;
use std::time::SystemTime;

use starling_database::postgres::{Failed, Pool, Statement, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::columns::Columns;
use crate::batch::seq_from_database;
use crate::postgres::announced::ToAnnounce;
use crate::{Append, AppendError, Appended, Error};

/// Appends messages none of which is in the log yet, to conversations that exist. Answers nothing otherwise.
const APPEND_FRESH: &str =
    "SELECT bases, times FROM starling_append_fresh($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// The answers to the messages of a batch, in its order.
type Answers = Vec<Result<Appended, AppendError>>;

/// Appends a batch in one transaction. Returns `None`, and has written nothing, if one of the messages is in the log already or one of the
/// conversations does not exist.
pub(super) async fn append(database: &Pool, batch: &[&Append]) -> Result<Option<Answers>, Failed> {
    let groups = Groups::of(batch);
    let messages: Vec<&Append> = groups.order.iter().map(|position| batch[*position]).collect();
    let columns = Columns::of(&messages);
    let (positions, numbers) = groups.places();
    let append = Statement {
        sql: APPEND_FRESH,
        parameters: &[
            (&groups.conversations, Type::INT8_ARRAY),
            (&groups.counts(), Type::INT4_ARRAY),
            (&positions, Type::INT4_ARRAY),
            (&numbers, Type::INT4_ARRAY),
            (&columns.ids, Type::UUID_ARRAY),
            (&columns.senders, Type::TEXT_ARRAY),
            (&columns.keys, Type::TEXT_ARRAY),
            (&columns.roles, Type::TEXT_ARRAY),
            (&columns.contents, Type::TEXT_ARRAY),
            (&columns.metadatas, Type::TEXT_ARRAY),
        ],
    };
    let announced = ToAnnounce::of(batch);
    let parameters = announced.parameters();
    let statements: Vec<Statement<'_>> =
        [append].into_iter().chain(announced.statement(&parameters)).collect();
    let answers = database.transaction(&statements).await?;
    match answers.first().and_then(|rows| rows.first()) {
        Some(row) => Ok(Some(groups.answers(batch, row)?)),
        None => Ok(None),
    }
}

/// A batch by conversation.
struct Groups {
    /// The conversations, ascending, so that all nodes lock them in the same order.
    conversations: Vec<i64>,
    /// Each conversation's range of `order`.
    ranges: Vec<Range<usize>>,
    /// The positions of the messages in the batch, by conversation. Those of one conversation are in the order of the batch.
    order: Vec<usize>,
}

impl Groups {
    fn of(batch: &[&Append]) -> Self {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|position| batch[*position].conversation);
        let (mut conversations, mut ranges) = (Vec::new(), Vec::new());
        let mut start = 0;
        for group in order.chunk_by(|one, other| batch[*one].conversation == batch[*other].conversation) {
            conversations.push(batch[group[0]].conversation.get());
            ranges.push(start..start + group.len());
            start += group.len();
        }
        Self { conversations, ranges, order }
    }

    /// Returns the number of messages of each conversation.
    fn counts(&self) -> Vec<i32> {
        self.ranges.iter().map(|range| number(range.len())).collect()
    }

    /// Returns the position of each message's conversation, and the message's number among those of its conversation, both from 1.
    fn places(&self) -> (Vec<i32>, Vec<i32>) {
        let places = self.ranges.iter().enumerate().flat_map(|(position, range)| {
            (1..=range.len()).map(move |place| (number(position + 1), number(place)))
        });
        places.unzip()
    }

    /// Returns the answer to each message. The row has the number before the first message of each conversation, and the time.
    fn answers(&self, batch: &[&Append], row: &Row) -> Result<Answers, Error> {
        let (bases, times): (Vec<i64>, Vec<SystemTime>) = (column(row, 0)?, column(row, 1)?);
        if bases.len() != self.ranges.len() || times.len() != self.ranges.len() {
            let found = bases.len();
            return Err(Error::Refused(format!("{found} answers for {} conversations", self.ranges.len())));
        }
        let mut answers = vec![Err(AppendError::Unavailable); batch.len()];
        for ((range, base), time) in self.ranges.iter().zip(bases).zip(times) {
            let at_ms = to_ms(time);
            for (seq, position) in (base + 1..).zip(&self.order[range.clone()]) {
                let id = batch[*position].id;
                answers[*position] =
                    Ok(Appended { seq: seq_from_database(seq), id, at_ms, duplicate: false });
            }
        }
        Ok(answers)
    }
}

/// Returns a number of messages as the database takes it. Batches are far smaller than the largest.
fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConversationId;

    #[test]
    fn messages_are_grouped_by_conversation_and_keep_their_order() {
        let message = |conversation, key: &str| {
            let id = ConversationId::new(conversation);
            Append::of_user(uuid::Uuid::nil(), id, "ann", key, "text")
        };
        let batch = [message(7, "a"), message(3, "b"), message(7, "c"), message(5, "d"), message(3, "e")];
        let groups = Groups::of(&batch.iter().collect::<Vec<_>>());
        assert_eq!(groups.conversations, [3, 5, 7]);
        assert_eq!(groups.counts(), [2, 1, 2]);
        assert_eq!(groups.order, [1, 4, 3, 0, 2]);
        assert_eq!(groups.places(), (vec![1, 1, 2, 3, 3], vec![1, 2, 1, 1, 2]));
    }
}

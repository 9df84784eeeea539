//! Numbering and inserting a batch of messages.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use rusqlite::{Connection, OptionalExtension};

use super::announced;
use super::clock::now_ms;
use crate::batch::{Refusals, seq_from_database};
use crate::{Append, AppendError, Appended, ConversationId, Error};

const HEAD: &str = "SELECT head, active_at_ms FROM conversations WHERE id = ?1";
const INSERT: &str = "
    INSERT INTO messages (conversation_id, seq, id, sender, key, role, at_ms, content, metadata)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (conversation_id, sender, key) DO NOTHING";
const STORED: &str =
    "SELECT seq, id, at_ms FROM messages WHERE conversation_id = ?1 AND sender = ?2 AND key = ?3";
const MOVE: &str = "UPDATE conversations SET head = ?2, active_at_ms = ?3 WHERE id = ?1";

/// The head of a conversation while a batch is appended.
struct Head {
    seq: i64,
    at_ms: i64,
    moved: bool,
}

/// Appends a batch in the present transaction of the connection. Whatever must be committed with the messages is written in the same
/// transaction. A message that the database refuses fails alone. If the database refuses a conversation's row, all messages of the batch to
/// that conversation fail.
pub(super) fn append(
    connection: &Connection,
    batch: &[Append],
) -> Result<Vec<Result<Appended, AppendError>>, Error> {
    let positions: Vec<usize> = (0..batch.len()).collect();
    let mut answers = vec![Err(AppendError::Refused); batch.len()];
    let mut refusals = Refusals::default();
    match part(connection, batch, &positions, &mut answers, &mut refusals) {
        Ok(()) => {}
        Err(Error::Refused(_)) => {
            refusals = Refusals::default();
            for positions in by_conversation(batch) {
                match part(connection, batch, &positions, &mut answers, &mut refusals) {
                    Ok(()) => {}
                    Err(error @ Error::Refused(_)) => {
                        for position in positions {
                            answers[position] = Err(AppendError::Refused);
                        }
                        refusals.note(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    refusals.log("messages", batch.len());
    Ok(answers)
}

/// Returns the positions of each conversation's messages.
fn by_conversation(batch: &[Append]) -> Vec<Vec<usize>> {
    let mut parts: BTreeMap<ConversationId, Vec<usize>> = BTreeMap::new();
    for (position, message) in batch.iter().enumerate() {
        parts.entry(message.conversation).or_default().push(position);
    }
    parts.into_values().collect()
}

/// Appends the messages at these positions, and writes the answers there. After an error none of them is in the database.
fn part(
    connection: &Connection,
    batch: &[Append],
    positions: &[usize],
    answers: &mut [Result<Appended, AppendError>],
    refusals: &mut Refusals,
) -> Result<(), Error> {
    connection.prepare_cached("SAVEPOINT part")?.execute([])?;
    let done = append_at(connection, batch, positions, answers, refusals);
    if done.is_err() && connection.is_autocommit() {
        // SQLite has rolled back the whole transaction by itself, as it does when the disk is full. The savepoint is gone.
        return done;
    }
    if done.is_err() {
        connection.prepare_cached("ROLLBACK TO part")?.execute([])?;
    }
    connection.prepare_cached("RELEASE part")?.execute([])?;
    done
}

fn append_at(
    connection: &Connection,
    batch: &[Append],
    positions: &[usize],
    answers: &mut [Result<Appended, AppendError>],
    refusals: &mut Refusals,
) -> Result<(), Error> {
    let now_ms = now_ms();
    let mut heads: HashMap<ConversationId, Option<Head>, RandomState> = HashMap::default();
    for position in positions {
        let message = &batch[*position];
        let head = match heads.entry(message.conversation) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(head_of(connection, message.conversation, now_ms)?),
        };
        answers[*position] = match head {
            // SQLite undoes only the statement that it refuses.
            Some(head) => match insert(connection, message, head) {
                Ok(appended) => Ok(appended),
                Err(error @ Error::Refused(_)) => {
                    refusals.note(error);
                    Err(AppendError::Refused)
                }
                Err(error) => return Err(error),
            },
            None => Err(AppendError::NoSuchConversation),
        };
    }
    let mut update = connection.prepare_cached(MOVE)?;
    for (id, head) in &heads {
        if let Some(head) = head
            && head.moved
        {
            update.execute((id.get(), head.seq, head.at_ms))?;
        }
    }
    Ok(())
}

/// Returns the head of a log and the time of the next message: now, but never earlier than the last message.
fn head_of(connection: &Connection, id: ConversationId, now_ms: i64) -> Result<Option<Head>, Error> {
    let head = connection.prepare_cached(HEAD)?.query_row([id.get()], |row| {
        Ok(Head { seq: row.get(0)?, at_ms: now_ms.max(row.get(1)?), moved: false })
    });
    Ok(head.optional()?)
}

fn insert(connection: &Connection, message: &Append, head: &mut Head) -> Result<Appended, Error> {
    let inserted = connection.prepare_cached(INSERT)?.execute((
        message.conversation.get(),
        head.seq + 1,
        message.id.as_bytes(),
        &*message.sender,
        &message.key,
        message.role.as_str(),
        head.at_ms,
        &*message.content,
        message.metadata.as_deref(),
    ))?;
    if inserted > 0 {
        head.seq += 1;
        head.moved = true;
        if message.announced {
            announced::note(connection, message.conversation, head.seq)?;
        }
        let seq = seq_from_database(head.seq);
        return Ok(Appended { id: message.id, seq, at_ms: head.at_ms, duplicate: false });
    }
    let first = (message.conversation.get(), &*message.sender, &message.key);
    Ok(connection.prepare_cached(STORED)?.query_row(first, |row| {
        Ok(Appended {
            seq: seq_from_database(row.get(0)?),
            id: uuid::Uuid::from_bytes(row.get(1)?),
            at_ms: row.get(2)?,
            duplicate: true,
        })
    })?)
}

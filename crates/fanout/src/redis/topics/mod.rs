//! Topics in Redis. One script per group of partitions numbers, keeps and publishes, so that every node sees publications in the order of
//! their offsets.

mod arguments;
mod history;
mod older_nodes;
mod piece;
mod scripts;

use std::sync::atomic::Ordering;

use fred::types::Value;
use starling_redis_link::{Command, Fault};

pub(super) use self::history::{history, read_history};
pub(super) use self::older_nodes::OlderNodes;
pub(super) use self::scripts::Scripts;

use self::arguments::{fits, for_older, for_this};
use self::older_nodes::Look;
use self::piece::{Piece, Place};
use self::scripts::{Task, ask_run, read_run};
use super::batches::batches;
use super::clients::{Answer, Clients, of_client};
use super::frame::{TAGS_MAX, read_stamp};
use super::shared::Shared;
use crate::{Error, Position, TopicPublication, partition_of};

/// The most publications in one run of the script. Redis does nothing else meanwhile, for a few microseconds each. A frame for nodes of an
/// older version has room for no more epochs ([`TAGS_MAX`]).
const SCRIPT_MAX: usize = 120;
const _: () = assert!(SCRIPT_MAX <= TAGS_MAX);

/// The length of an epoch's name, bytes.
const EPOCH_BYTES: usize = 16;

/// The length of a stamp, bytes.
const STAMP_BYTES: usize = size_of::<u64>();

/// The most tries. A server may know neither the script nor the one for older nodes.
const TRIES: usize = 4;

/// The outcome of a script that publishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Numbered {
    Positions(Vec<Position>),
    /// Nothing was published, since nodes of an older version are there.
    OlderNodes,
}

/// See [`crate::Fanout::publish_topics`]. Takes no longer than the timeout of one command.
pub(super) async fn publish(
    shared: &Shared,
    clients: &Clients,
    batch: &[TopicPublication],
) -> Vec<Result<Position, Error>> {
    let mut results = vec![Err(too_long()); batch.len()];
    let all = publish_pieces(shared, clients, batch, &mut results);
    // Publications without a result by then keep the error.
    let _ = tokio::time::timeout(shared.command_timeout, all).await;
    results
}

async fn publish_pieces(
    shared: &Shared,
    clients: &Clients,
    batch: &[TopicPublication],
    results: &mut [Result<Position, Error>],
) {
    let mut pieces = pieces(shared, batch, results);
    for _ in 0..TRIES {
        let task = match clients.older_nodes.are_there() {
            true => Task::PublishForOlder,
            false => Task::Publish,
        };
        let commands = commands(shared, clients, task, batch, &pieces).await;
        let answers = clients.publish(commands).await;
        note_memory(shared, &answers);
        let mut again = Vec::new();
        for (piece, answer) in pieces.into_iter().zip(answers) {
            let unknown = is_unknown_script(&answer);
            let numbered = answer.map_err(of_client);
            match numbered.and_then(|answer| read_positions(answer, piece.places.len())) {
                Ok(Numbered::Positions(positions)) => {
                    for (place, position) in piece.places.iter().zip(positions) {
                        results[place.index] = Ok(position);
                    }
                }
                Ok(Numbered::OlderNodes) => {
                    clients.older_nodes.saw_one();
                    again.push(piece);
                }
                Err(error) => {
                    clients.scripts.forget(piece.group, task);
                    piece.places.iter().for_each(|place| results[place.index] = Err(error.clone()));
                    if unknown {
                        again.push(piece);
                    }
                }
            }
        }
        if again.is_empty() {
            break;
        }
        pieces = again;
    }
}

/// Splits a batch into pieces for one command each. Publications that are too large get their error.
fn pieces(
    shared: &Shared,
    batch: &[TopicPublication],
    results: &mut [Result<Position, Error>],
) -> Vec<Piece> {
    let channels = &shared.channels;
    let mut groups: Vec<Vec<Place>> = vec![Vec::new(); channels.groups().len()];
    for (index, publication) in batch.iter().enumerate() {
        match fits(publication) {
            Ok(()) => {
                let partition = partition_of(&publication.tenant, &publication.topic);
                groups[channels.group(partition)].push(Place { index, partition });
            }
            Err(error) => results[index] = Err(error),
        }
    }
    let mut pieces = Vec::new();
    for (group, places) in groups.iter().enumerate() {
        let size = |place: &Place| batch[place.index].body.len();
        pieces
            .extend(batches(places, SCRIPT_MAX, size).map(|places| Piece { group, places: places.to_vec() }));
    }
    pieces
}

/// Returns the command for each piece: by the script's hash if its server should know it, otherwise by its text.
async fn commands(
    shared: &Shared,
    clients: &Clients,
    task: Task,
    batch: &[TopicPublication],
    pieces: &[Piece],
) -> Vec<Command> {
    let scripts = &clients.scripts;
    let mut unknown: Vec<usize> = pieces.iter().map(|piece| piece.group).collect();
    unknown.dedup();
    unknown.retain(|group| scripts.get(*group, task).is_none());
    let slot = |group: usize| shared.channels.groups()[group].slot;
    let runs = unknown.iter().map(|group| ask_run(slot(*group)));
    for (group, answer) in unknown.iter().zip(clients.publish(runs.collect()).await) {
        // Without an answer the publications fail as well.
        if let Some(run) = answer.ok().and_then(read_run) {
            scripts.set(*group, task, &run);
        }
    }
    let command = |piece: &Piece| {
        let is_new = unknown.contains(&piece.group);
        let arguments = || match task {
            Task::PublishForOlder => for_older(shared, clients, is_new, batch, piece),
            Task::Publish | Task::History => {
                let look = if is_new { Look::NodesAndRun } else { clients.older_nodes.look(piece.group) };
                for_this(shared, clients, look, batch, piece)
            }
        };
        match scripts.get(piece.group, task) {
            Some(script) if is_new => script.by_text(slot(piece.group), arguments()),
            Some(script) => script.by_hash(slot(piece.group), arguments()),
            // Its answer can't be read as positions, so these publications fail.
            None => ask_run(slot(piece.group)),
        }
    };
    pieces.iter().map(command).collect()
}

/// Logs once that Redis has no memory for topics, and once that it has again.
fn note_memory(shared: &Shared, answers: &[Answer]) {
    let is_full = |answer: &Answer| answer.as_ref().is_err_and(|error| Fault::of(error) == Fault::Full);
    if answers.iter().any(is_full) {
        if !shared.full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "Redis is full (maxmemory) and evicts nothing: publications to topics fail until it has memory again"
            );
        }
    } else if answers.iter().any(Result::is_ok) && shared.full.swap(false, Ordering::Relaxed) {
        tracing::info!("Redis has memory for topics again");
    }
}

/// Reads `[count, epoch, stamps]`, where the epoch is one for all or one for each; or `[-1]`.
pub(super) fn read_positions(answer: Value, count: usize) -> Result<Numbered, Error> {
    let Value::Array(answer) = answer else { return Err(unexpected()) };
    if let [value] = &answer[..] {
        return if value.as_i64() == Some(-1) { Ok(Numbered::OlderNodes) } else { Err(unexpected()) };
    }
    let [numbered, epochs, stamps] = <[Value; 3]>::try_from(answer).map_err(|_| unexpected())?;
    let epochs = epochs.into_string().ok_or_else(unexpected)?;
    let stamps = stamps.into_bytes().ok_or_else(unexpected)?;
    let is_one = epochs.len() == EPOCH_BYTES;
    let fits = (is_one || epochs.len() == EPOCH_BYTES * count) && stamps.len() == STAMP_BYTES * count;
    if numbered.as_u64() != Some(count as u64) || !fits {
        return Err(unexpected());
    }
    let (stamps, _) = stamps.as_chunks::<STAMP_BYTES>();
    let position = |(n, stamp): (usize, &[u8; STAMP_BYTES])| {
        let begin = if is_one { 0 } else { n * EPOCH_BYTES };
        let epoch = epochs.get(begin..begin + EPOCH_BYTES).ok_or_else(unexpected)?.to_owned();
        Ok(Position { epoch, offset: read_stamp(u64::from_le_bytes(*stamp)).0 })
    };
    stamps.iter().enumerate().map(position).collect::<Result<_, _>>().map(Numbered::Positions)
}

fn is_unknown_script(answer: &Answer) -> bool {
    answer.as_ref().is_err_and(|error| Fault::of(error) == Fault::UnknownScript)
}

fn too_long() -> Error {
    Error::Unavailable("Redis took too long".into())
}

fn unexpected() -> Error {
    Error::Unavailable("Redis gave an answer that can't be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(count: i64, epochs: &str, stamps: &[u64]) -> Value {
        let stamps: Vec<u8> = stamps.iter().flat_map(|stamp| stamp.to_le_bytes()).collect();
        Value::Array(vec![count.into(), epochs.into(), Value::from(&stamps[..])])
    }

    #[test]
    fn positions_have_one_epoch_or_one_each() {
        let (first, second) = ("0123456789abcdef", "fedcba9876543210");
        let at = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
        let stamps = [0x0123_0000_0000_0005, 0xfedc_0000_0000_0001];
        assert_eq!(
            read_positions(answer(2, first, &stamps), 2).unwrap(),
            Numbered::Positions(vec![at(first, 5), at(first, 1)])
        );
        assert_eq!(
            read_positions(answer(2, &format!("{first}{second}"), &stamps), 2).unwrap(),
            Numbered::Positions(vec![at(first, 5), at(second, 1)])
        );
        assert_eq!(read_positions(Value::Array(vec![(-1).into()]), 2).unwrap(), Numbered::OlderNodes);
        for wrong in [
            answer(1, first, &stamps),
            answer(2, "short", &stamps),
            answer(2, first, &stamps[1..]),
            Value::Array(vec![0.into()]),
            Value::Null,
        ] {
            assert!(read_positions(wrong, 2).is_err());
        }
    }
}

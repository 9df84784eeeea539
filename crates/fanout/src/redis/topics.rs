//! Topics in Redis. One script per partition numbers, keeps and publishes, so that every node sees publications in the order of their
//! offsets.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fred::types::Value;
use starling_model::{TenantName, TopicName};
use starling_redis_link::{Command, Fault, Script};

use super::batches::batches;
use super::clients::{Answer, Clients, of_client};
use super::frame::{TAGS_MAX, TOPICS_HEADER, topic_names};
use super::shared::Shared;
use crate::{BODY_BYTES_MAX, Error, Position, TopicHistory, TopicPublication, TopicSettings, partition_of};

/// How long a topic's numbering outlives its last use, seconds.
const NUMBERING_SECONDS: u32 = 24 * 60 * 60;

/// How long new numberings get the same epoch, seconds: shorter than the life of a numbering, so that no topic has two numberings of one
/// epoch.
const EPOCH_SECONDS: u32 = NUMBERING_SECONDS / 2;

/// The longest name of a tenant or a topic, bytes.
const NAME_MAX: usize = u16::MAX as usize;

static RUN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("server_run.lua")));
static HISTORY: LazyLock<Script> =
    LazyLock::new(|| Script::new(with_epochs(include_str!("topic_history.lua"))));

/// The most publications in one run of the script. Redis does nothing else meanwhile, for some ten microseconds each. A frame has room for
/// no more epochs ([`TAGS_MAX`]).
const SCRIPT_MAX: usize = 120;
const _: () = assert!(SCRIPT_MAX <= TAGS_MAX);

/// The publications for one group of partitions in one command, as indices into the batch.
struct Piece {
    group: usize,
    indices: Vec<usize>,
}

/// See [`crate::Fanout::publish_topics`]. Takes no longer than the timeout of one command.
pub(super) async fn publish(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    batch: &[TopicPublication],
) -> Vec<Result<Position, Error>> {
    let mut results = vec![Err(too_long()); batch.len()];
    let all = publish_pieces(shared, clients, settings, batch, &mut results);
    // Publications without a result by then keep the error.
    let _ = tokio::time::timeout(shared.command_timeout, all).await;
    results
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

async fn publish_pieces(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    batch: &[TopicPublication],
    results: &mut [Result<Position, Error>],
) {
    let channels = &shared.channels;
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); channels.groups().len()];
    for (index, publication) in batch.iter().enumerate() {
        match fits(publication) {
            Ok(()) => {
                groups[channels.group(partition_of(&publication.tenant, &publication.topic))].push(index);
            }
            Err(error) => results[index] = Err(error),
        }
    }
    let mut pieces = Vec::new();
    for (group, indices) in groups.iter().enumerate() {
        let size = |index: &usize| batch[*index].body.len();
        pieces.extend(
            batches(indices, SCRIPT_MAX, size).map(|indices| Piece { group, indices: indices.to_vec() }),
        );
    }
    // Twice, since a server may not know the script.
    for _ in 0..2 {
        let commands = commands(shared, clients, settings, batch, &pieces).await;
        let answers = clients.publish(commands).await;
        note_memory(shared, &answers);
        let mut again = Vec::new();
        for (piece, answer) in pieces.into_iter().zip(answers) {
            let unknown = is_unknown_script(&answer);
            let positions = answer.map_err(of_client);
            match positions.and_then(|answer| read_positions(answer, piece.indices.len())) {
                Ok(positions) => {
                    for (index, position) in piece.indices.iter().zip(positions) {
                        results[*index] = Ok(position);
                    }
                }
                Err(error) => {
                    clients.scripts.forget(piece.group);
                    piece.indices.iter().for_each(|index| results[*index] = Err(error.clone()));
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

/// Returns the command for each piece: by the script's hash if its server should know it, otherwise by its text.
async fn commands(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    batch: &[TopicPublication],
    pieces: &[Piece],
) -> Vec<Command> {
    let scripts = &clients.scripts;
    let mut unknown: Vec<usize> = pieces.iter().map(|piece| piece.group).collect();
    unknown.dedup();
    unknown.retain(|group| scripts.get(*group).is_none());
    let slot = |group: usize| shared.channels.groups()[group].slot;
    let runs = unknown.iter().map(|group| RUN.by_text(slot(*group), vec![0.into()]));
    for (group, answer) in unknown.iter().zip(clients.publish(runs.collect()).await) {
        // Without an answer the publications fail as well.
        if let Some(run) = answer.ok().and_then(read_run) {
            scripts.set(
                *group,
                Script::new(with_epochs(include_str!("publish_topics.lua")).replace("%RUN%", &run)),
            );
        }
    }
    let command = |piece: &Piece| {
        let is_new = unknown.contains(&piece.group);
        let arguments = || {
            let publications = piece.indices.iter().map(|index| &batch[*index]);
            publish_arguments(shared, clients, settings, piece.group, is_new, publications)
        };
        match scripts.get(piece.group) {
            Some(script) if is_new => script.by_text(slot(piece.group), arguments()),
            Some(script) => script.by_hash(slot(piece.group), arguments()),
            // Its answer can't be read as positions, so these publications fail.
            None => RUN.by_text(slot(piece.group), vec![0.into()]),
        }
    };
    pieces.iter().map(command).collect()
}

/// See [`crate::Fanout::topic_history`].
pub(super) async fn history(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    tenant: &TenantName,
    topic: &TopicName,
    since: Option<&Position>,
) -> Result<TopicHistory, Error> {
    let partition = partition_of(tenant, topic);
    let slot = shared.channels.groups()[shared.channels.group(partition)].slot;
    let (numbering, history) = shared.names.topic_keys(partition, tenant, topic);
    let arguments = vec![
        Value::Integer(3),
        Value::Bytes(shared.names.epochs_key(shared.channels.group(partition))),
        Value::Bytes(numbering),
        Value::Bytes(history),
        text(new_epoch()),
        Value::Integer(numbering_seconds(settings).into()),
        Value::Integer(EPOCH_SECONDS.into()),
        text(since.map(|since| since.epoch.clone()).unwrap_or_default()),
        text(since.map(|since| since.offset.to_string()).unwrap_or_default()),
        Value::Integer(settings.history.into()),
    ];
    let answer = async {
        let answer = clients.read(HISTORY.by_hash(slot, arguments.clone())).await;
        if is_unknown_script(&answer) { clients.read(HISTORY.by_text(slot, arguments)).await } else { answer }
    };
    let answer = tokio::time::timeout(shared.command_timeout, answer).await.map_err(|_| too_long())?;
    read_history(answer.map_err(of_client)?).ok_or_else(unexpected)
}

fn publish_arguments<'a>(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    group: usize,
    look_at_run: bool,
    publications: impl ExactSizeIterator<Item = &'a TopicPublication>,
) -> Vec<Value> {
    let count = publications.len();
    let mut arguments = Vec::with_capacity(11 + 4 * count);
    let mut contents = Vec::with_capacity(2 * count);
    arguments.push(Value::Integer(1 + 2 * count as i64));
    arguments.push(Value::Bytes(shared.names.epochs_key(group)));
    for TopicPublication { tenant, topic, body } in publications {
        let (numbering, history) = shared.names.topic_keys(partition_of(tenant, topic), tenant, topic);
        arguments.push(Value::Bytes(numbering));
        arguments.push(Value::Bytes(history));
        contents.push(Value::Bytes(topic_names(tenant, topic)));
        contents.push(Value::Bytes(body.clone()));
    }
    arguments.push(Value::Bytes(shared.channels.groups()[group].name.clone()));
    arguments.push(Value::Bytes(Bytes::from_static(clients.publish_name().as_bytes())));
    arguments.push(text(new_epoch()));
    arguments.push(Value::Integer(settings.history.into()));
    arguments.push(Value::Integer(settings.history_seconds.into()));
    arguments.push(Value::Integer(numbering_seconds(settings).into()));
    arguments.push(Value::Integer(EPOCH_SECONDS.into()));
    arguments.push(Value::Integer(look_at_run.into()));
    arguments.push(Value::Bytes(Bytes::from_static(TOPICS_HEADER)));
    arguments.append(&mut contents);
    arguments
}

/// Returns how long a numbering outlives its last use, seconds: at least as long as the history, which is useless without it.
fn numbering_seconds(settings: TopicSettings) -> u32 {
    NUMBERING_SECONDS.max(settings.history_seconds)
}

/// Inserts the function that several scripts share.
fn with_epochs(script: &str) -> String {
    script.replace("%EPOCHS%", include_str!("epochs.lua"))
}

fn fits(publication: &TopicPublication) -> Result<(), Error> {
    let TopicPublication { tenant, topic, body } = publication;
    match [(body.len(), BODY_BYTES_MAX), (tenant.len(), NAME_MAX), (topic.len(), NAME_MAX)]
        .iter()
        .find(|(length, limit)| length > limit)
    {
        Some((length, _)) => Err(Error::TooLarge(*length)),
        None => Ok(()),
    }
}

/// Reads `[1, run]`.
fn read_run(answer: Value) -> Option<String> {
    let Value::Array(answer) = answer else { return None };
    let [_, run] = <[Value; 2]>::try_from(answer).ok()?;
    // It becomes part of a script's text.
    run.into_string().filter(|run| run.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn is_unknown_script(answer: &Answer) -> bool {
    answer.as_ref().is_err_and(|error| Fault::of(error) == Fault::UnknownScript)
}

/// Reads `[count, epoch, offset, epoch, offset …]`.
pub(super) fn read_positions(answer: Value, count: usize) -> Result<Vec<Position>, Error> {
    let Value::Array(answer) = answer else { return Err(unexpected()) };
    let mut answer = answer.into_iter();
    if answer.next().and_then(|value| value.as_u64()) != Some(count as u64) || answer.len() != 2 * count {
        return Err(unexpected());
    }
    let mut positions = Vec::with_capacity(count);
    while let (Some(epoch), Some(offset)) = (answer.next(), answer.next()) {
        let epoch = epoch.into_string().ok_or_else(unexpected)?;
        let offset = offset.as_u64().ok_or_else(unexpected)?;
        positions.push(Position { epoch, offset });
    }
    Ok(positions)
}

/// Reads `[offset, recovered, epoch, [offset, body, offset, body …]]`.
pub(super) fn read_history(answer: Value) -> Option<TopicHistory> {
    let Value::Array(answer) = answer else { return None };
    let [offset, recovered, epoch, publications] = <[Value; 4]>::try_from(answer).ok()?;
    let position = Position { epoch: epoch.into_string()?, offset: offset.as_u64()? };
    let recovered = recovered.as_u64()? == 1;
    let publications = match publications {
        Value::Array(publications) => publications,
        Value::Null => Vec::new(),
        _ => return None,
    };
    let mut publications = publications.into_iter();
    let mut read = Vec::with_capacity(publications.len() / 2);
    while let (Some(offset), Some(body)) = (publications.next(), publications.next()) {
        read.push((offset.as_u64()?, body.into_bytes()?));
    }
    Some(TopicHistory { position, recovered, publications: read })
}

fn new_epoch() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn text(text: String) -> Value {
    Value::Bytes(text.into())
}

fn too_long() -> Error {
    Error::Unavailable("Redis took too long".into())
}

fn unexpected() -> Error {
    Error::Unavailable("Redis gave an answer that can't be read".into())
}

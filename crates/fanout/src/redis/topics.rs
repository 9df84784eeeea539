//! Topics in Redis: numbered, kept and published by one script per lane, so that the order in Redis is the order of
//! the offsets for everyone.

use std::sync::LazyLock;

use bytes::Bytes;
use fred::types::Value;
use fred::util::sha1_hash;

use super::batches;
use super::clients::{Clients, Order};
use super::frame::topic_names;
use super::link::Shared;
use super::names::topic_keys;
use crate::{BODY_BYTES_MAX, Error, LANES, Position, TopicHistory, TopicPublication, TopicSettings, lane_of};

/// How long a topic's numbering outlives its last use, seconds.
const NUMBERING_SECONDS: u32 = 24 * 60 * 60;

/// How long a tenant's or a topic's name may be, bytes.
const NAME_MAX: usize = u16::MAX as usize;

static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("publish_topics.lua")));
static HISTORY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("topic_history.lua")));

/// See [`crate::Fanout::publish_topics`].
pub(super) async fn publish(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    batch: &[TopicPublication],
) -> Vec<Result<Position, Error>> {
    let mut results: Vec<Result<Position, Error>> =
        vec![Err(Error::Unavailable("no answer".into())); batch.len()];
    let mut lanes: [Vec<usize>; LANES as usize] = Default::default();
    for (index, publication) in batch.iter().enumerate() {
        match fits(publication) {
            Ok(()) => lanes[usize::from(lane_of(&publication.tenant, &publication.topic))].push(index),
            Err(error) => results[index] = Err(error),
        }
    }
    let pieces: Vec<(u16, &[usize])> = (0..LANES)
        .zip(&lanes)
        .flat_map(|(lane, indices)| {
            batches(indices, |index: &usize| batch[*index].body.len()).map(move |piece| (lane, piece))
        })
        .collect();
    let arguments = |lane: u16, indices: &[usize]| {
        publish_arguments(shared, clients, settings, lane, indices.iter().map(|index| &batch[*index]))
    };
    let orders = pieces
        .iter()
        .map(|(lane, indices)| PUBLISH.by_hash(shared.channels.lane(*lane).slot, arguments(*lane, indices)));
    let answers = clients.publish(orders.collect()).await;
    for ((lane, indices), mut answer) in pieces.into_iter().zip(answers) {
        if is_unknown_script(&answer) {
            let order = PUBLISH.by_text(shared.channels.lane(lane).slot, arguments(lane, indices));
            answer = clients.publish(vec![order]).await.pop().unwrap_or(answer);
        }
        let positions = answer.and_then(|answer| read_positions(answer, indices.len()));
        match positions {
            Ok(positions) => {
                for (index, position) in indices.iter().zip(positions) {
                    results[*index] = Ok(position);
                }
            }
            Err(error) => indices.iter().for_each(|index| results[*index] = Err(error.clone())),
        }
    }
    results
}

/// See [`crate::Fanout::topic_history`].
pub(super) async fn history(
    shared: &Shared,
    clients: &Clients,
    _settings: TopicSettings,
    tenant: &str,
    topic: &str,
    since: Option<&Position>,
) -> Result<TopicHistory, Error> {
    let lane = lane_of(tenant, topic);
    let slot = shared.channels.lane(lane).slot;
    let (numbering, history) = topic_keys(lane, tenant, topic);
    let arguments = vec![
        Value::Integer(2),
        Value::Bytes(numbering),
        Value::Bytes(history),
        text(new_epoch()),
        Value::Integer(NUMBERING_SECONDS.into()),
        text(since.map(|since| since.epoch.clone()).unwrap_or_default()),
        text(since.map(|since| since.offset.to_string()).unwrap_or_default()),
    ];
    let mut answer = clients.read(HISTORY.by_hash(slot, arguments.clone())).await;
    if is_unknown_script(&answer) {
        answer = clients.read(HISTORY.by_text(slot, arguments)).await;
    }
    read_history(answer?).ok_or_else(unexpected)
}

/// A script, and the name by which Redis remembers it.
struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: sha1_hash(text) }
    }

    fn by_hash(&self, slot: u16, mut arguments: Vec<Value>) -> Order {
        arguments.insert(0, text(self.hash.clone()));
        Order::new("EVALSHA", slot, arguments)
    }

    /// For a server that doesn't know the script yet, and then does.
    fn by_text(&self, slot: u16, mut arguments: Vec<Value>) -> Order {
        arguments.insert(0, Value::Bytes(Bytes::from_static(self.text.as_bytes())));
        Order::new("EVAL", slot, arguments)
    }
}

fn publish_arguments<'a>(
    shared: &Shared,
    clients: &Clients,
    settings: TopicSettings,
    lane: u16,
    publications: impl ExactSizeIterator<Item = &'a TopicPublication>,
) -> Vec<Value> {
    let count = publications.len();
    let mut arguments = Vec::with_capacity(9 + 4 * count);
    let mut contents = Vec::with_capacity(2 * count);
    arguments.push(Value::Integer(2 * count as i64));
    for TopicPublication { tenant, topic, body } in publications {
        let (numbering, history) = topic_keys(lane, tenant, topic);
        arguments.push(Value::Bytes(numbering));
        arguments.push(Value::Bytes(history));
        contents.push(Value::Bytes(topic_names(tenant, topic)));
        contents.push(Value::Bytes(body.clone()));
    }
    arguments.push(Value::Bytes(shared.channels.lane(lane).name.clone()));
    arguments.push(Value::Bytes(Bytes::from_static(clients.publish_command().as_bytes())));
    arguments.push(text(new_epoch()));
    arguments.push(Value::Integer(settings.history.into()));
    arguments.push(Value::Integer(settings.history_seconds.into()));
    // Longer than the history in any case: a history without its numbering would be of no use.
    arguments.push(Value::Integer(NUMBERING_SECONDS.max(settings.history_seconds).into()));
    arguments.push(Value::Bytes(shared.writer.topics(count)));
    arguments.append(&mut contents);
    arguments
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

fn is_unknown_script(answer: &Result<Value, Error>) -> bool {
    matches!(answer, Err(Error::Unavailable(fault)) if fault.contains("NOSCRIPT"))
}

/// Reads `[count, epoch, offset, epoch, offset …]`.
fn read_positions(answer: Value, count: usize) -> Result<Vec<Position>, Error> {
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
fn read_history(answer: Value) -> Option<TopicHistory> {
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

fn unexpected() -> Error {
    Error::Unavailable("Redis gave an answer that can't be read".into())
}

//! The arguments of the scripts that publish.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use fred::types::Value;

use super::older_nodes::Look;
use super::piece::{Piece, Place};
use crate::redis::clients::Clients;
use crate::redis::frame::{OLDER_TOPICS_HEADER, TOPICS_HEADER, put_topic_names};
use crate::redis::shared::Shared;
use crate::{BODY_BYTES_MAX, Error, TopicPublication};

/// How long new numberings of nodes of an older version get the same epoch, seconds: half of the day that a numbering of theirs outlives
/// its last use.
const OLDER_EPOCH_SECONDS: u32 = 12 * 60 * 60;

/// The longest name of a tenant or a topic, bytes.
const NAME_MAX: usize = u16::MAX as usize;

/// The bytes of a length before a name, and before a body.
const NAME_LENGTH: usize = 2;
const BODY_LENGTH: usize = 4;

/// Fails if a publication is larger than Redis is given.
pub(super) fn fits(publication: &TopicPublication) -> Result<(), Error> {
    let TopicPublication { tenant, topic, body } = publication;
    match [(body.len(), BODY_BYTES_MAX), (tenant.len(), NAME_MAX), (topic.len(), NAME_MAX)]
        .iter()
        .find(|(length, limit)| length > limit)
    {
        Some((length, _)) => Err(Error::TooLarge(*length)),
        None => Ok(()),
    }
}

/// Returns the arguments of `publish.lua`.
pub(super) fn for_this(
    shared: &Shared,
    clients: &Clients,
    look: Look,
    batch: &[TopicPublication],
    piece: &Piece,
) -> Vec<Value> {
    let (keys, channels) = (&shared.topics_keys[piece.group], &shared.channels);
    let count = piece.places.len();
    let mut arguments = Vec::with_capacity(20 + 2 * count);
    arguments.push(Value::Integer(5));
    for key in [
        &keys.numbers,
        &keys.numbers_before,
        &keys.publications,
        &keys.publications_before,
        &keys.older_epochs,
    ] {
        arguments.push(Value::Bytes(key.clone()));
    }
    let partitions: Vec<u8> = piece.places.iter().map(|place| place.partition as u8).collect();
    let publications = || piece.places.iter().map(|place| &batch[place.index]);
    arguments.extend([
        Value::Bytes(channels.of_topics(piece.group).name.clone()),
        word(clients.publish_name()),
        Value::Bytes(channels.groups()[piece.group].name.clone()),
        word(clients.count_name()),
        text(new_epoch()),
        Value::Integer(shared.topics.history.into()),
        Value::Integer(shared.topics.history_seconds.into()),
        Value::Integer(look as i64),
        Value::Bytes(Bytes::from_static(TOPICS_HEADER)),
        text(shared.names.key_prefix().to_owned()),
        Value::Bytes(partitions.into()),
        Value::Integer(have_repeated_topic(publications()).into()),
    ]);
    // All in one buffer, of which each argument is a slice.
    let size =
        |publication: &TopicPublication| names_size(publication) + BODY_LENGTH + publication.body.len();
    let mut buffer = BytesMut::with_capacity(publications().map(size).sum());
    for publication in publications() {
        put_topic_names(&mut buffer, &publication.tenant, &publication.topic);
        arguments.push(Value::Bytes(buffer.split().freeze()));
    }
    for TopicPublication { body, .. } in publications() {
        buffer.put_u32_le(body.len() as u32);
        buffer.put_slice(body);
        arguments.push(Value::Bytes(buffer.split().freeze()));
    }
    arguments
}

/// Returns the arguments of `publish_for_older.lua`.
pub(super) fn for_older(
    shared: &Shared,
    clients: &Clients,
    look_at_run: bool,
    batch: &[TopicPublication],
    piece: &Piece,
) -> Vec<Value> {
    let keys = &shared.topics_keys[piece.group];
    let count = piece.places.len();
    let mut arguments = Vec::with_capacity(16 + 4 * count);
    arguments.push(Value::Integer(5 + 2 * count as i64));
    for key in [
        &keys.older_epochs,
        &keys.numbers,
        &keys.numbers_before,
        &keys.publications,
        &keys.publications_before,
    ] {
        arguments.push(Value::Bytes(key.clone()));
    }
    for Place { index, partition } in &piece.places {
        let TopicPublication { tenant, topic, .. } = &batch[*index];
        let (numbering, history) = shared.names.older_topic_keys(*partition, tenant, topic);
        arguments.extend([Value::Bytes(numbering), Value::Bytes(history)]);
    }
    arguments.extend([
        Value::Bytes(shared.channels.groups()[piece.group].name.clone()),
        word(clients.publish_name()),
        text(new_epoch()),
        Value::Integer(shared.topics.history.into()),
        Value::Integer(shared.topics.history_seconds.into()),
        Value::Integer(OLDER_EPOCH_SECONDS.into()),
        Value::Integer(look_at_run.into()),
        Value::Bytes(Bytes::from_static(OLDER_TOPICS_HEADER)),
    ]);
    let publications = || piece.places.iter().map(|place| &batch[place.index]);
    for publication in publications() {
        let mut names = BytesMut::with_capacity(names_size(publication));
        put_topic_names(&mut names, &publication.tenant, &publication.topic);
        arguments.push(Value::Bytes(names.freeze()));
    }
    arguments.extend(publications().map(|publication| Value::Bytes(publication.body.clone())));
    arguments
}

fn names_size(publication: &TopicPublication) -> usize {
    2 * NAME_LENGTH + publication.tenant.len() + publication.topic.len()
}

fn have_repeated_topic<'a>(mut publications: impl ExactSizeIterator<Item = &'a TopicPublication>) -> bool {
    if publications.len() < 2 {
        return false;
    }
    let mut seen =
        HashSet::with_capacity_and_hasher(publications.len(), foldhash::fast::RandomState::default());
    !publications.all(|publication| seen.insert((&*publication.tenant, &*publication.topic)))
}

fn word(word: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(word.as_bytes()))
}

/// Returns the name of an epoch that no other has.
pub(super) fn new_epoch() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Returns a text as an argument.
pub(super) fn text(text: String) -> Value {
    Value::Bytes(text.into())
}

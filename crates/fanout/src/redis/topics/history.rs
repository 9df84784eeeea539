//! What came on a topic since a position.

use bytes::{Bytes, BytesMut};
use fred::types::Value;
use starling_model::{TenantName, TopicName};

use super::arguments::{new_epoch, text};
use super::scripts::{Task, ask_run, read_run};
use super::{is_unknown_script, too_long, unexpected};
use crate::redis::clients::{Answer, Clients, of_client};
use crate::redis::frame::{Items, put_topic_names};
use crate::redis::shared::Shared;
use crate::{Error, Position, TopicHistory, partition_of};

/// See [`crate::Fanout::topic_history`].
pub(in crate::redis) async fn history(
    shared: &Shared,
    clients: &Clients,
    tenant: &TenantName,
    topic: &TopicName,
    since: Option<&Position>,
) -> Result<TopicHistory, Error> {
    let partition = partition_of(tenant, topic);
    let group = shared.channels.group(partition);
    let keys = &shared.topics_keys[group];
    let (numbering, history) = shared.names.older_topic_keys(partition, tenant, topic);
    let mut names = BytesMut::with_capacity(4 + tenant.len() + topic.len());
    put_topic_names(&mut names, tenant, topic);
    let arguments = vec![
        Value::Integer(6),
        Value::Bytes(keys.numbers.clone()),
        Value::Bytes(keys.numbers_before.clone()),
        Value::Bytes(keys.publications.clone()),
        Value::Bytes(keys.publications_before.clone()),
        Value::Bytes(numbering),
        Value::Bytes(history),
        text(new_epoch()),
        Value::Bytes(names.freeze()),
        text(since.map(|since| since.epoch.clone()).unwrap_or_default()),
        text(since.map(|since| since.offset.to_string()).unwrap_or_default()),
        Value::Integer(shared.topics.history.into()),
    ];
    let answer = tokio::time::timeout(shared.command_timeout, ask(shared, clients, group, arguments));
    let answer = answer.await.map_err(|_| too_long())?.map_err(of_client)?;
    read_history(answer).ok_or_else(|| {
        // It may be another run of the server.
        clients.scripts.forget(group, Task::History);
        unexpected()
    })
}

/// Runs the script with these arguments and whether it has to look at the run. Tries twice, since the server may not know the script.
async fn ask(shared: &Shared, clients: &Clients, group: usize, arguments: Vec<Value>) -> Answer {
    let slot = shared.channels.groups()[group].slot;
    let with = |look_at_run: bool| {
        let mut arguments = arguments.clone();
        arguments.push(Value::Integer(look_at_run.into()));
        arguments
    };
    if let Some(script) = clients.scripts.get(group, Task::History) {
        let answer = clients.read(script.by_hash(slot, with(false))).await;
        if !is_unknown_script(&answer) {
            return answer;
        }
        clients.scripts.forget(group, Task::History);
    }
    let run = clients.read(ask_run(slot)).await?;
    if let Some(run) = read_run(run) {
        clients.scripts.set(group, Task::History, &run);
    }
    match clients.scripts.get(group, Task::History) {
        Some(script) => clients.read(script.by_text(slot, with(true))).await,
        None => Ok(Value::Null),
    }
}

/// Reads `[offset, recovered, epoch, [publication, publication …]]`.
pub(in crate::redis) fn read_history(answer: Value) -> Option<TopicHistory> {
    let Value::Array(answer) = answer else { return None };
    let [offset, recovered, epoch, publications] = <[Value; 4]>::try_from(answer).ok()?;
    let position = Position { epoch: epoch.into_string()?, offset: offset.as_u64()? };
    let recovered = recovered.as_u64()? == 1;
    let publications = match publications {
        Value::Array(publications) => {
            publications.into_iter().map(read_publication).collect::<Option<_>>()?
        }
        Value::Null => Vec::new(),
        _ => return None,
    };
    Some(TopicHistory { position, recovered, publications })
}

fn read_publication(publication: Value) -> Option<(u64, Bytes)> {
    let mut items = Items::of(publication.into_bytes()?);
    let item = items.topic().ok()?;
    items.is_empty().then_some((item.offset, item.body))
}

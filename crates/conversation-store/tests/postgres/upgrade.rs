//! Nodes of an earlier version that write at the same time, while an upgrade is rolled out.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use starling_conversation_store::{Append, ConversationId, ConversationStore, Range, Seq};
use starling_testkit::postgres::Postgres;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::store::{append, message, new, store};

/// What a node calls that knows the first migration only.
const APPEND: &str = "SELECT item, seq, id, at, duplicate FROM starling_append($1, $2, $3, $4, $5, $6, $7)";

/// Connects as a node of an earlier version. Its transactions look as they did.
async fn earlier_node(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn append_as_before(client: &tokio_postgres::Client, batch: &[Append]) -> Result<Vec<i64>> {
    let conversations: Vec<i64> = batch.iter().map(|message| message.conversation.get()).collect();
    let ids: Vec<uuid::Uuid> = batch.iter().map(|message| message.id).collect();
    let senders: Vec<&str> = batch.iter().map(|message| &*message.sender).collect();
    let keys: Vec<&str> = batch.iter().map(|message| &*message.key).collect();
    let roles = vec!["user"; batch.len()];
    let contents: Vec<&str> = batch.iter().map(|message| &*message.content).collect();
    let metadatas: Vec<Option<&str>> = vec![None; batch.len()];
    let rows =
        client.query(APPEND, &[&conversations, &ids, &senders, &keys, &roles, &contents, &metadatas]).await?;
    rows.iter().map(|row| row.get::<_, Option<i64>>("seq").context("no such conversation")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_and_present_nodes_number_the_same_conversations() -> Result<()> {
    const WRITERS: usize = 4;
    const BATCHES: usize = 40;
    let url = Postgres::shared().await?.create_database("upgrade").await?;
    let store = store(&url)?;
    store.migrate().await?;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(store.create(&new(name)).await?.id);
    }
    let mut writers: JoinSet<Result<Vec<(ConversationId, u64)>>> = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, mut ids) = (Arc::clone(&store), ids.clone());
        // Opposite orders, so that locks in the order of the batch would block each other.
        if writer % 2 == 0 {
            ids.reverse();
        }
        let earlier = if writer < WRITERS / 2 { Some(earlier_node(&url).await?) } else { None };
        writers.spawn(async move {
            let mut told = Vec::new();
            for round in 0..BATCHES {
                let batch: Vec<Append> =
                    ids.iter().map(|id| message(*id, &format!("{writer}-{round}"))).collect();
                let seqs: Vec<u64> = match &earlier {
                    Some(client) => {
                        append_as_before(client, &batch).await?.into_iter().map(i64::cast_unsigned).collect()
                    }
                    None => {
                        let answers = store.append(&batch).await?.into_iter();
                        answers.map(|answer| Ok(answer?.seq.get())).collect::<Result<_>>()?
                    }
                };
                told.extend(ids.iter().copied().zip(seqs));
            }
            Ok(told)
        });
    }
    let mut told = HashSet::new();
    while let Some(writer) = writers.join_next().await {
        for place in writer?? {
            ensure!(told.insert(place), "{place:?} twice");
        }
    }
    let all = (WRITERS * BATCHES) as u64;
    for id in ids {
        let page = store.messages(id, Range::After(Seq::ZERO), 1_000, usize::MAX, true).await?;
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq.get()).collect();
        assert_eq!(seqs, (1..=all).collect::<Vec<_>>());
        ensure!((1..=all).all(|seq| told.contains(&(id, seq))));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_finds_what_the_earlier_node_wrote() -> Result<()> {
    let url = Postgres::shared().await?.create_database("upgrade_retry").await?;
    let store = store(&url)?;
    store.migrate().await?;
    let id = store.create(&new("a")).await?.id;
    let earlier = earlier_node(&url).await?;
    let first = message(id, "once");
    assert_eq!(append_as_before(&earlier, std::slice::from_ref(&first)).await?, [1]);
    let again = append(&store, id, "once").await?;
    assert_eq!((again.seq, again.duplicate, again.id), (Seq::new(1), true, first.id));
    // The other way round.
    append(&store, id, "twice").await?;
    assert_eq!(append_as_before(&earlier, &[message(id, "twice")]).await?, [2]);
    assert_eq!(append(&store, id, "next").await?.seq, 3);
    Ok(())
}

//! Faults of the server, of the way to it, and of what stands in between: nothing is lost or doubled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{Append, Appended, ConversationId, ConversationStore, Range, Seq};
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::wait;
use tokio::task::JoinSet;

use crate::store::{LIMIT, append, eventually, failed, message, new, store};

/// Connections are ended again and again under load. Writers repeat what failed with the same keys; in the end all is
/// there once, what was acknowledged stands where it was said to stand, and no number is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_backends_lose_nothing_and_double_nothing() -> Result<()> {
    let postgres = Postgres::start().await?;
    let stores = [store(&postgres.url())?, store(&postgres.url())?];
    faults_lose_nothing(&postgres, &stores).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_backends_behind_pgbouncer_lose_nothing_and_double_nothing() -> Result<()> {
    let postgres = Postgres::start().await?;
    let bouncer = PgBouncer::start(&postgres).await?;
    let stores = [store(&bouncer.url())?, store(&bouncer.url())?];
    faults_lose_nothing(&postgres, &stores).await
}

async fn faults_lose_nothing(postgres: &Postgres, stores: &[Arc<PostgresStore>; 2]) -> Result<()> {
    const WRITERS: usize = 4;
    const BLOWS: usize = 6;
    eventually("the migration", || stores[0].migrate()).await?;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(stores[0].create(&new(name)).await?.id);
    }
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers: JoinSet<Result<Vec<(ConversationId, Appended)>>> = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, ids, stop) = (Arc::clone(&stores[writer % 2]), ids.clone(), Arc::clone(&stop));
        let acknowledged = Arc::clone(&acknowledged);
        writers.spawn(async move {
            let mut answers = Vec::new();
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let batch: Vec<Append> =
                    (0..9).map(|n| message(ids[n % 3], &format!("{writer}-{round}-{n}"))).collect();
                let appended = eventually("an append", || store.append(&batch)).await?;
                for (answer, message) in appended.into_iter().zip(batch) {
                    answers.push((message.conversation, answer?));
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answers)
        });
    }
    let mut ended = 0;
    for _ in 0..BLOWS {
        let before = acknowledged.load(Ordering::Relaxed);
        let goes_on = async || Ok(acknowledged.load(Ordering::Relaxed) > before + 20);
        wait::until_true(LIMIT, "more batches", goes_on).await?;
        ended += postgres.terminate_backends().await?;
    }
    ensure!(ended > 0, "no connection was ended");
    stop.store(true, Ordering::Relaxed);
    let mut told: HashMap<(ConversationId, Seq), uuid::Uuid> = HashMap::new();
    while let Some(writer) = writers.join_next().await {
        for (conversation, appended) in writer?? {
            ensure!(told.insert((conversation, appended.seq), appended.id).is_none(), "a number twice");
        }
    }
    let mut stored = 0;
    for id in ids {
        let mut last = Seq::ZERO;
        loop {
            let page = stores[0].messages(id, Range::After(last), 1_000, usize::MAX, true).await?;
            for message in page.messages {
                assert_eq!(message.seq, last.next(), "a hole");
                assert_eq!(told.get(&(id, message.seq)), Some(&message.id), "the number after {last}");
                (last, stored) = (message.seq, stored + 1);
            }
            if !page.more {
                break;
            }
        }
    }
    assert_eq!(stored, told.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_unavailable_at_once_and_used_again_when_back() -> Result<()> {
    let postgres = Postgres::start().await?;
    let store = store(&postgres.url())?;
    store.migrate().await?;
    let id = store.create(&new("c")).await?.id;
    append(&store, id, "before").await?;
    for crash in [false, true] {
        if crash {
            postgres.crash().await?;
        } else {
            postgres.stop().await?;
        }
        for _ in 0..3 {
            let started = Instant::now();
            let error = failed(store.append(&[message(id, "meanwhile")]).await)?;
            ensure!(error.is_transient(), "{error}");
            ensure!(started.elapsed() < Duration::from_secs(3), "took {:?}", started.elapsed());
            ensure!(failed(store.ping().await)?.is_transient());
            ensure!(failed(store.check().await)?.is_transient());
        }
        postgres.start_again().await?;
        append(&store, id, if crash { "after the crash" } else { "after the stop" }).await?;
    }
    let page = store.messages(id, Range::After(Seq::ZERO), 10, usize::MAX, true).await?;
    let contents: Vec<_> = page.messages.iter().map(|m| m.content.as_str()).collect();
    assert_eq!(contents, ["before", "after the stop", "after the crash"]);
    Ok(())
}

/// A primary that becomes a standby goes on answering on the connections that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_server_that_takes_no_writes_is_not_used_again() -> Result<()> {
    let url = Postgres::shared().await?.create_database("demoted").await?;
    let patient = store(&url)?;
    patient.migrate().await?;

    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let console = tokio::spawn(connection);
    client
        .batch_execute("ALTER ROLE CURRENT_USER IN DATABASE demoted SET default_transaction_read_only = on")
        .await?;
    let store = PostgresStore::connect(PostgresConfig { pool_size_max: 1, ..PostgresConfig::new(&url) })?;
    store.ping().await?;
    // From now on new connections may write; the one that the store has still may not.
    client
        .batch_execute(
            "SET default_transaction_read_only = off; ALTER ROLE CURRENT_USER IN DATABASE demoted RESET ALL",
        )
        .await?;
    let error = failed(store.create(&new("d")).await)?;
    ensure!(error.is_transient() && error.to_string().contains("read-only"), "{error}");
    ensure!(store.create(&new("d")).await?.created);
    drop(client);
    console.await??;
    Ok(())
}

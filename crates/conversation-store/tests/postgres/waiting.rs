//! Calls that wait: for a lock, for their turn, or for nobody any more.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{Append, AppendError, ConversationStore, Seq};
use starling_database::postgres::PoolConfig;
use starling_testkit::postgres::Postgres;
use starling_testkit::wait;

use crate::store::{LIMIT, append, failed, message, new, store};

/// Somebody at a console holds a lock. The call ends in time, the server stops working on it, and its connection is not
/// used for another call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_too_long_is_cancelled() -> Result<()> {
    let url = Postgres::shared().await?.create_database("late").await?;
    let config = PostgresConfig {
        pool: PoolConfig { statement_timeout: Duration::from_millis(300), ..PoolConfig::default() },
        pool_size_max: 1,
        ..PostgresConfig::new(&url)
    };
    let patient = store(&url)?;
    patient.migrate().await?;
    let id = patient.create(&new("c")).await?.id;
    let hasty = PostgresStore::connect(config)?;

    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let console = tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT * FROM conversations FOR UPDATE").await?;
    let error = failed(hasty.append(&[message(id, "late")]).await)?;
    ensure!(error.is_transient(), "{error}");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let cancelled = async || {
        let row = client.query_one(waiting, &[]).await?;
        Ok(row.try_get::<_, i64>(0)? == 0)
    };
    wait::until_true(LIMIT, "the server to stop waiting", cancelled).await?;
    client.batch_execute("ROLLBACK").await?;
    // The same key again: had the first one been carried out all the same, this would be a duplicate. By the patient one, whose
    // own call can't be the one that was carried out.
    let appended = append(&patient, id, "late").await?;
    assert_eq!((appended.seq.get(), appended.duplicate), (1, false));
    wait::until_true(LIMIT, "a connection that works", async || Ok(hasty.check().await.is_ok())).await?;
    drop(client);
    console.await??;
    Ok(())
}

/// Somebody at a console holds one conversation. Messages to others that share its batch are stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_somebody_holds_fails_alone() -> Result<()> {
    let url = Postgres::shared().await?.create_database("held").await?;
    let pool = PoolConfig { statement_timeout: Duration::from_secs(8), ..PoolConfig::default() };
    let config = PostgresConfig { pool, ..PostgresConfig::new(&url) };
    let store = PostgresStore::connect(config)?;
    store.migrate().await?;
    let mut ids = Vec::new();
    for name in ["a", "held", "c"] {
        ids.push(store.create(&new(name)).await?.id);
    }
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let console = tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT * FROM conversations WHERE name = 'held' FOR UPDATE").await?;
    let batch: Vec<Append> = (0..9).map(|n| message(ids[n % 3], &n.to_string())).collect();
    let answers = store.append(&batch).await?;
    for (answer, message) in answers.iter().zip(&batch) {
        let wanted = message.conversation != ids[1];
        ensure!(
            answer.is_ok() == wanted && (wanted || *answer == Err(AppendError::Unavailable)),
            "{answer:?}"
        );
    }
    client.batch_execute("ROLLBACK").await?;
    let again = store.append(&batch).await?;
    for (again, message) in again.into_iter().zip(&batch) {
        assert_eq!(again?.duplicate, message.conversation != ids[1]);
    }
    drop(client);
    console.await??;
    Ok(())
}

/// A caller that goes away in the middle of a call does not leave its answer to the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_call_does_not_disturb_the_next() -> Result<()> {
    let url = Postgres::shared().await?.create_database("abandoned").await?;
    let store = PostgresStore::connect(PostgresConfig { pool_size_max: 1, ..PostgresConfig::new(&url) })?;
    store.migrate().await?;
    let id = store.create(&new("c")).await?.id;
    for number in 0..30_u64 {
        let batch = [message(id, &number.to_string())];
        // Given up at some point between the start and the answer, or not at all.
        let _ = tokio::time::timeout(Duration::from_micros(number * 100), store.append(&batch)).await;
        append(&store, id, &number.to_string()).await?;
        assert_eq!(store.heads(&[id]).await?.first().map(|head| head.head), Some(Seq::new(number + 1)));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_erased_piece_by_piece_and_by_whoever_comes() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("erase").await?;
    let store = store(&url)?;
    store.migrate().await?;
    let [one, other] = [store.create(&new("one")).await?.id, store.create(&new("other")).await?.id];
    for id in [one, other] {
        let batch: Vec<Append> = (0..12_000).map(|key| message(id, &key.to_string())).collect();
        store.append(&batch).await?;
    }
    ensure!(store.delete(one).await? && store.delete(other).await?);
    let left = "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM erasures)";
    assert_eq!(postgres.psql_in("erase", left).await?.trim(), "24000|2", "whoever deletes does not wait");
    ensure!(store.erase().await?);
    assert_eq!(postgres.psql_in("erase", left).await?.trim(), "19000|2", "a piece");

    let next = self::store(&url)?;
    next.migrate().await?;
    assert_eq!(postgres.psql_in("erase", left).await?.trim(), "19000|2", "nor does a start");
    while next.erase().await? {}
    assert_eq!(postgres.psql_in("erase", left).await?.trim(), "0|0");
    Ok(())
}

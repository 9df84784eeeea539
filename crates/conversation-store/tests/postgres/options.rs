//! What an operator can choose: a replica, prepared statements, and defaults of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{
    Append, ConversationId, ConversationStore, Error, LastSeen, Range, ReadMark, Seq,
};
use starling_database::postgres::{PoolConfig, PreparedStatements};
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::{free_port, wait};
use tokio::task::JoinSet;

use crate::store::{LIMIT, append, message, new, store};

/// Defaults that a database or a role may have must not decide whether a statement succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_defaults_of_a_database_change_nothing() -> Result<()> {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 25;
    let postgres = Postgres::shared().await?;
    for (number, isolation) in ["serializable", "repeatable read"].into_iter().enumerate() {
        let name = format!("hostile_{number}");
        let direct = postgres.create_database(&name).await?;
        for (setting, value) in [
            ("default_transaction_isolation", isolation),
            ("statement_timeout", "300ms"),
            ("lock_timeout", "200ms"),
            ("client_encoding", "LATIN1"),
            ("bytea_output", "escape"),
            ("datestyle", "German"),
            ("intervalstyle", "sql_standard"),
            ("timezone", "Pacific/Chatham"),
            ("standard_conforming_strings", "off"),
            ("array_nulls", "off"),
            ("plan_cache_mode", "force_custom_plan"),
            ("default_transaction_deferrable", "on"),
        ] {
            let set = format!("ALTER DATABASE {name} SET {setting} = '{value}'");
            postgres.psql_in("postgres", &set).await?;
        }
        let bouncer = PgBouncer::start(postgres).await?;
        for (way, url) in [("direct", direct), ("pooled", bouncer.url_of(&name))] {
            let stores = [store(&url)?, store(&url)?];
            stores[0].check().await?;
            stores[0].migrate().await?;
            let mut ids = Vec::new();
            for name in ["a", "b"] {
                ids.push(stores[0].create(&new(name)).await?.id);
            }
            let before: u64 = stores[0].heads(&ids).await?.iter().map(|head| head.head.get()).sum();
            let mut writers: JoinSet<Result<()>> = JoinSet::new();
            for writer in 0..WRITERS {
                let (store, ids) = (Arc::clone(&stores[writer % 2]), ids.clone());
                let key = format!("{way} {writer}");
                writers.spawn(async move {
                    for round in 0..ROUNDS {
                        let batch: Vec<Append> = ids
                            .iter()
                            .map(|id| message(*id, &format!("{key} {round} \u{e4}\u{1f44b}")))
                            .collect();
                        // Not once may a call fail that would have succeeded elsewhere.
                        for answer in store.append(&batch).await? {
                            ensure!(!answer?.duplicate);
                        }
                        let mark = |id: &ConversationId| ReadMark {
                            conversation: *id,
                            user: "owner".into(),
                            seq: Seq::new(round as u64),
                        };
                        store.mark_read(&ids.iter().map(mark).collect::<Vec<_>>()).await?;
                        let seen = LastSeen {
                            tenant: "t".into(),
                            user: "owner".into(),
                            at_ms: 1_790_000_000_000 + round as i64,
                        };
                        store.touch_users(&[seen]).await?;
                        store.messages(ids[0], Range::Newest, 50, usize::MAX, true).await?;
                        store.update(ids[0], Some(Some(format!("title {round}"))), None).await?;
                    }
                    Ok(())
                });
            }
            while let Some(writer) = writers.join_next().await {
                writer??;
            }
            // A lock that is held for longer than the defaults would wait for it, first for a write, then for a read.
            for table in ["conversations", "messages"] {
                let hold =
                    format!("BEGIN; LOCK {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.5); COMMIT");
                let held = tokio::spawn({
                    let name = name.clone();
                    async move { postgres.psql_in(&name, &format!("SET statement_timeout = 0; {hold}")).await }
                });
                let lock = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation";
                let lock = format!("SET statement_timeout = 0; {lock} = '{table}'::regclass");
                let is_held =
                    async || Ok(postgres.psql_in(&name, &lock).await?.trim() == "1" || held.is_finished());
                wait::until_true(LIMIT, "the lock", is_held).await?;
                if table == "conversations" {
                    patiently(async || stores[0].update(ids[0], Some(None), None).await.map(drop)).await?;
                } else {
                    let read = async || stores[0].messages(ids[0], Range::Newest, 50, usize::MAX, true).await;
                    patiently(async || read().await.map(drop)).await?;
                }
                held.await??;
            }
            let after: u64 = stores[0].heads(&ids).await?.iter().map(|head| head.head.get()).sum();
            assert_eq!(after - before, (WRITERS * ROUNDS * ids.len()) as u64);
            let page = stores[1].messages(ids[0], Range::Newest, 1, usize::MAX, true).await?;
            ensure!(page.messages[0].content.ends_with("\u{e4}\u{1f44b}"), "{}", page.messages[0].content);
        }
    }
    Ok(())
}

/// Calls again while the call ends at Starling's own limits, which a slow machine may reach, and not at those of the database, which are
/// shorter.
async fn patiently(call: impl AsyncFn() -> Result<(), Error>) -> Result<()> {
    const LONGER_THAN_THE_DATABASE_ALLOWS: Duration = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        match call().await {
            Err(error) if error.is_transient() && began.elapsed() > LONGER_THAN_THE_DATABASE_ALLOWS => {}
            answer => return Ok(answer?),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_answers_what_need_not_be_fresh_and_the_primary_where_it_cannot() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let primary = postgres.create_database("primary_of_two").await?;
    // Stands for a replica that lags behind: the same schema, other contents.
    let behind = postgres.create_database("replica_of_two").await?;
    store(&behind)?.migrate().await?;
    let port = free_port()?;
    let dead = format!("postgres://starling@{}/starling", port.address());
    let with_replica = |read_url: &str| {
        PostgresStore::connect(PostgresConfig {
            read_url: Some(read_url.into()),
            ..PostgresConfig::new(&primary)
        })
    };

    let store = with_replica(&behind)?;
    store.migrate().await?;
    let id = store.create(&new("c")).await?.id;
    append(&store, id, "a").await?;
    let count = async |store: &PostgresStore, fresh| {
        store.messages(id, Range::Newest, 10, usize::MAX, fresh).await.map(|page| page.messages.len())
    };
    assert_eq!((count(&store, true).await?, count(&store, false).await?), (1, 0));
    // A page before a message ends right before it, or the replica lacks something.
    let page = store.messages(id, Range::Before(Seq::new(2)), 10, usize::MAX, false).await?;
    assert_eq!(page.messages.len(), 1);
    assert!(store.messages(id, Range::Before(Seq::new(1)), 10, usize::MAX, false).await?.messages.is_empty());
    assert_eq!(store.conversations_of(&"t".into(), &"owner".into(), None, 10).await?.conversations.len(), 0);
    assert_eq!(
        store.pools().iter().map(|pool| pool.name).collect::<Vec<_>>(),
        ["appends", "primary", "replica"]
    );

    let store = with_replica(&dead)?;
    assert_eq!((count(&store, true).await?, count(&store, false).await?), (1, 1));
    assert_eq!(store.conversations_of(&"t".into(), &"owner".into(), None, 10).await?.conversations.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_give_the_same_answers() -> Result<()> {
    let url = Postgres::shared().await?.create_database("prepared").await?;
    let pool = PoolConfig { prepared_statements: PreparedStatements::Always, ..PoolConfig::default() };
    let store = PostgresStore::connect(PostgresConfig { pool, ..PostgresConfig::new(&url) })?;
    store.migrate().await?;
    let id = store.create(&new("c")).await?.id;
    for number in 1..=20_u64 {
        assert_eq!(append(&store, id, &number.to_string()).await?.seq, number);
    }
    let page = store.messages(id, Range::Before(Seq::new(3)), 10, usize::MAX, true).await?;
    assert_eq!(page.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed() -> Result<()> {
    let url = Postgres::shared().await?.create_database("idle").await?;
    let pool = PoolConfig { idle_timeout: Duration::from_millis(200), ..PoolConfig::default() };
    let config = PostgresConfig { pool, ..PostgresConfig::new(&url) };
    let store = PostgresStore::connect(config)?;
    store.ping().await?;
    let closed = async || Ok(store.pools().iter().all(|pool| pool.size == 0));
    wait::until_true(LIMIT, "the connection to be closed", closed).await?;
    store.ping().await?;
    Ok(())
}

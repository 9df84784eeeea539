//! What only PostgreSQL can show: faults of the server, of the way to it, and of what stands in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{
    Append, AppendError, Appended, ConversationId, ConversationStore, Error, LastSeen, NewConversation,
    Range, ReadMark, Role, Seq, connect,
};
use starling_database::postgres::PoolConfig;
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::{Folder, free_port, wait};
use tokio::task::JoinSet;

/// For conditions that come true by themselves, on a machine busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

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

#[tokio::test]
async fn a_store_is_made_without_a_server() -> Result<()> {
    let port = free_port()?;
    let store = connect(&format!("postgres://starling:secret@{}/starling", port.address())).await?;
    let error = failed(store.check().await)?;
    ensure!(error.is_transient() && !error.to_string().contains("secret"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_or_database_is_the_operators_to_mend() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.url();
    let (start, end) = (url.find("starling:").context("a role")? + 9, url.find('@').context("a host")?);
    let wrong = format!("{}wrong{}", &url[..start], &url[end..]);
    let missing = url.replace("/starling", "/nowhere").replace("//nowhere", "//starling");
    for url in [wrong, missing] {
        match store(&url)?.check().await {
            Err(Error::Address(text)) => ensure!(!text.contains(&url), "{text}"),
            other => bail!("{url}: {other:?}"),
        }
    }
    Ok(())
}

/// What can't hold every text is refused at the start: later it would fail where somebody writes an emoji.
#[tokio::test]
async fn a_database_of_another_encoding_is_refused() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("western").await?;
    store(&url)?.check().await?;
    for encoding in ["LATIN1", "EUC_JP", "SQL_ASCII"] {
        let name = format!("of_{}", encoding.to_lowercase());
        let make = format!(
            "CREATE DATABASE {name} OWNER starling ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        postgres.psql_in("postgres", &make).await?;
        let store = store(&url.replace("/western", &format!("/{name}")))?;
        for refused in [store.check().await, store.migrate().await] {
            let error = failed(refused)?;
            ensure!(matches!(error, Error::Unsupported(_)) && !error.is_transient(), "{error}");
            let text = error.to_string();
            ensure!(text.contains(encoding) && text.contains("ENCODING 'UTF8'"), "{text}");
        }
    }
    Ok(())
}

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
                    format!("BEGIN; LOCK {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1); COMMIT");
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
                    stores[0].update(ids[0], Some(None), None).await?;
                } else {
                    stores[0].messages(ids[0], Range::Newest, 50, usize::MAX, true).await?;
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
    let pool = PoolConfig { prepared_statements: true, ..PoolConfig::default() };
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

/// The first host takes connections and says nothing, as one does whose machine is up and whose server hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_host_leads_to_the_next() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("second_host").await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let refuses = free_port()?;
    let (start, end) = url.split_once('@').context("a host")?;
    let first = silent.local_addr()?;
    let of = |query: &str| format!("{start}@{first},{},{end}{query}", refuses.address());
    for (url, limit) in [(of("?connect_timeout=1"), 1), (of(""), 3)] {
        let store = store(&url)?;
        let started = Instant::now();
        store.migrate().await?;
        ensure!(started.elapsed() >= Duration::from_secs(limit), "the first host was not tried");
        store.create(&new("c")).await?;
    }
    Ok(())
}

/// As hosters print their URLs. The certificate's signature decides by which digest the connection is bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_binding_holds_for_every_signature() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    for (number, (key, signature)) in [
        ("rsa:2048", "-sha256"),
        ("rsa:2048", "-sha384"),
        ("rsa:2048", "-sha512"),
        ("rsa:2048", "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1"),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "-sha256"),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "-sha384"),
    ]
    .into_iter()
    .enumerate()
    {
        let make = format!(
            "openssl req -x509 -newkey {key} {signature} -nodes -days 2 -subj /CN=c{number} -keyout server.key -out server.crt && \
             chmod 600 server.key"
        );
        postgres.psql(&format!("COPY (SELECT 1) TO PROGRAM '({make}) > openssl.log 2>&1'")).await?;
        postgres.psql("ALTER SYSTEM SET ssl = on").await?;
        postgres.psql("SELECT pg_reload_conf()").await?;
        // Until the server shows this certificate, and no longer the one before.
        let store = store(&format!("{url}?sslmode=require&channel_binding=require"))?;
        eventually(signature, || store.ping()).await?;
    }
    for (query, works) in [
        ("sslmode=require&channel_binding=prefer", true),
        ("sslmode=require&channel_binding=disable", true),
        // Nothing to bind to.
        ("sslmode=disable&channel_binding=require", false),
    ] {
        assert_eq!(store(&format!("{url}?{query}"))?.ping().await.is_ok(), works, "{query}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_as_the_ssl_mode_says() -> Result<()> {
    let postgres = Postgres::start().await?;
    let folder = Folder::new("tls")?;
    let authority = folder.write("ca.pem", &switch_tls_on(&postgres).await?)?;
    let address = postgres.url();
    let name = address.replace("127.0.0.1", "localhost");
    let known = format!("sslrootcert={}", authority.display().to_string().replace('/', "%2F"));
    for (url, query, works) in [
        (&address, "sslmode=disable".to_owned(), true),
        (&address, "sslmode=prefer".to_owned(), true),
        (&address, "sslmode=require".to_owned(), true),
        (&address, format!("sslmode=require&{known}"), true),
        (&address, format!("sslmode=verify-full&{known}"), true),
        // The certificate is the address's, not the name's.
        (&name, format!("sslmode=verify-ca&{known}"), true),
        (&name, format!("sslmode=verify-full&{known}"), false),
        // None of the world's authorities has signed it.
        (&address, "sslmode=verify-ca".to_owned(), false),
        (&address, "sslmode=verify-full".to_owned(), false),
    ] {
        let store = store(&format!("{url}?{query}"))?;
        let answer = store.ping().await;
        assert_eq!(answer.is_ok(), works, "{query}: {answer:?}");
        if works {
            let encrypted = postgres
                .psql("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'starling'")
                .await?;
            assert_eq!(encrypted.trim(), if query.contains("disable") { "f" } else { "t" }, "{query}");
        }
        drop(store);
        let closed = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'starling'";
        wait::until_true(LIMIT, "the connection to end", async || {
            Ok(postgres.psql(closed).await?.trim() == "0")
        })
        .await?;
    }
    Ok(())
}

/// Gives the server a certificate for 127.0.0.1 by an authority made for it, whose own certificate is returned.
async fn switch_tls_on(postgres: &Postgres) -> Result<String> {
    // Run by the server, in its folder and as its user, whose the key has to be.
    let make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt && \
                openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr && \
                echo subjectAltName=IP:127.0.0.1 > names && \
                openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                    -extfile names -out server.crt && chmod 600 server.key";
    postgres.psql(&format!("COPY (SELECT 1) TO PROGRAM '({make}) > openssl.log 2>&1'")).await?;
    postgres.psql("ALTER SYSTEM SET ssl = on").await?;
    postgres.psql("SELECT pg_reload_conf()").await?;
    let on = async || Ok(postgres.psql("SHOW ssl").await?.trim() == "on");
    wait::until_true(LIMIT, "TLS", on).await?;
    postgres.psql("SELECT pg_read_file('ca.crt')").await
}

fn store(url: &str) -> Result<Arc<PostgresStore>> {
    Ok(Arc::new(PostgresStore::connect(PostgresConfig::new(url))?))
}

/// Repeats a call as long as it fails for now, as the rest of Starling does.
async fn eventually<T, F, C>(what: &str, mut call: C) -> Result<T>
where
    F: Future<Output = Result<T, Error>>,
    C: FnMut() -> F,
{
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_transient() && started.elapsed() < LIMIT => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error).with_context(|| what.to_owned()),
        }
    }
}

fn failed<T>(result: Result<T, Error>) -> Result<Error> {
    result.err().context("succeeded")
}

async fn append(store: &PostgresStore, id: ConversationId, key: &str) -> Result<Appended> {
    let batch = [message(id, key)];
    Ok(eventually("an append", || store.append(&batch)).await?[0]?)
}

fn new(name: &str) -> NewConversation {
    NewConversation {
        tenant: "t".into(),
        conversation: name.into(),
        owner: "owner".into(),
        title: None,
        metadata: None,
        members: Vec::new(),
    }
}

fn message(conversation: ConversationId, key: &str) -> Append {
    Append {
        conversation,
        id: uuid::Uuid::now_v7(),
        sender: "owner".into(),
        key: key.into(),
        role: Role::User,
        content: key.into(),
        metadata: None,
    }
}

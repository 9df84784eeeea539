//! PostgreSQL that was restored from a dump: told apart from one that was moved, copied or taken over by a standby.

use anyhow::{Context, Result, ensure};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{ConversationStore, NewConversation};
use starling_testkit::postgres::Postgres;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_dump_is_another_incarnation_wherever_and_however_it_is_restored() -> Result<()> {
    let (postgres, elsewhere) = tokio::try_join!(Postgres::start(), Postgres::start())?;
    let store = store(&postgres.url())?;
    store.migrate().await?;
    store.create(&new()).await?;
    let (incarnation, log) = (store.incarnation().await?, log_of(&store).await?);
    let (whole, rows) =
        (postgres.dump("starling", &[]).await?, postgres.dump("starling", &["--data-only"]).await?);
    assert_eq!(store.incarnation().await?, incarnation, "a dump changes nothing");

    // Into the same database, while a node has connections to it.
    postgres.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION starling").await?;
    postgres.restore("starling", &whole).await?;
    let renewed = log_of(&store).await?;
    assert_ne!(renewed, log, "noticed by whoever opens a conversation");
    let second = store.incarnation().await?;
    assert_ne!(second, incarnation);
    assert_eq!(log_of(&store).await?, renewed, "once");
    assert_eq!(store.incarnation().await?, second, "once");

    // The rows alone, into the tables that are there.
    postgres
        .psql("TRUNCATE starling_migrations, incarnation, conversations, members, messages, users, erasures")
        .await?;
    postgres.restore("starling", &rows).await?;
    let third = store.incarnation().await?;
    ensure!(third != second && third != incarnation);

    // Into another database, and onto another server.
    let url = postgres.create_database("copy").await?;
    postgres.restore("copy", &whole).await?;
    let copy = self::store(&url)?;
    assert_ne!(log_of(&copy).await?, log);
    elsewhere.restore("starling", &whole).await?;
    let copy = self::store(&elsewhere.url())?;
    copy.migrate().await?;
    assert_ne!(copy.incarnation().await?, incarnation);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_notice_at_the_same_time_begin_one_incarnation() -> Result<()> {
    let postgres = Postgres::start().await?;
    store(&postgres.url())?.migrate().await?;
    for round in 0..5 {
        postgres.psql("UPDATE incarnation SET origin = 'another server'").await?;
        let mut nodes = JoinSet::new();
        for _ in 0..6 {
            let store = store(&postgres.url())?;
            nodes.spawn(async move { store.incarnation().await });
        }
        let incarnations = nodes.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
        ensure!(incarnations.windows(2).all(|pair| pair[0] == pair[1]), "{round}: {incarnations:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_started_again_tidied_up_or_followed_by_its_standby_is_the_same() -> Result<()> {
    let primary = Postgres::start().await?;
    let store = store(&primary.url())?;
    store.migrate().await?;
    store.create(&new()).await?;
    let (incarnation, log) = (store.incarnation().await?, log_of(&store).await?);
    for sql in ["VACUUM (FREEZE)", "VACUUM FULL", "CLUSTER incarnation USING incarnation_pkey"] {
        primary.psql(sql).await?;
        assert_eq!(store.incarnation().await?, incarnation, "{sql}");
    }
    primary.crash().await?;
    primary.start_again().await?;
    let again = self::store(&primary.url())?;
    assert_eq!(again.incarnation().await?, incarnation);

    let standby = Postgres::standby_of(&primary).await?;
    primary.crash().await?;
    standby.promote().await?;
    let store = self::store(&standby.url())?;
    assert_eq!(store.incarnation().await?, incarnation);
    assert_eq!(log_of(&store).await?, log);
    Ok(())
}

async fn log_of(store: &PostgresStore) -> Result<String> {
    Ok(store.open(&"t".into(), &"c".into()).await?.context("the conversation")?.log)
}

fn store(url: &str) -> Result<PostgresStore> {
    Ok(PostgresStore::connect(PostgresConfig::new(url))?)
}

fn new() -> NewConversation {
    NewConversation {
        tenant: "t".into(),
        conversation: "c".into(),
        owner: "owner".into(),
        title: None,
        metadata: None,
        members: Vec::new(),
    }
}

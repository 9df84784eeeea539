//! What only an SQLite file can show.

use anyhow::{Result, bail, ensure};
use starling_conversation_store::sqlite::{SqliteConfig, SqliteStore};
use starling_conversation_store::{
    Append, AppendError, ConversationId, ConversationStore, Error, NewConversation, Range, ReadMark, Seq,
    connect,
};
use starling_testkit::Folder;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_file_serves_one_program_at_a_time() -> Result<()> {
    let folder = Folder::new("sqlite-lock")?;
    let path = folder.join("starling.db");
    let first = SqliteStore::open(&path, SqliteConfig::default())?;
    match SqliteStore::open(&path, SqliteConfig::default()) {
        Err(Error::Address(text)) => {
            ensure!(text.contains("another program") && text.contains("starling.db"), "{text}");
        }
        Err(other) => bail!("not the operator's to mend? {other}"),
        Ok(_) => bail!("opened twice"),
    }
    drop(first);
    SqliteStore::open(&path, SqliteConfig::default())?.migrate().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() -> Result<()> {
    let folder = Folder::new("sqlite-garbage")?;
    let text = "a letter to a friend, long enough to be taken for a database's first page, but none at all";
    let path = folder.write("letter.txt", &text.repeat(50))?;
    for url in [format!("sqlite://{}", path.display()), format!("sqlite://{}", folder.path().display())] {
        match connect(&url).await {
            Err(Error::Address(_)) => {}
            Err(other) => bail!("{url}: {other}"),
            Ok(_) => bail!("{url} was opened"),
        }
    }
    assert_eq!(std::fs::read_to_string(&path)?, text.repeat(50));
    // A folder that can't be made, because a file stands in its place.
    let below = format!("sqlite://{}/starling.db", path.display());
    ensure!(matches!(connect(&below).await, Err(Error::Address(_))));
    Ok(())
}

#[tokio::test]
async fn a_database_in_memory_is_gone_with_its_store() -> Result<()> {
    for _ in 0..2 {
        let store = connect("sqlite://:memory:").await?;
        store.migrate().await?;
        ensure!(store.create(&new("c")).await?.created, "nothing is left of the one before");
    }
    Ok(())
}

/// Calls of all kinds at once share commits; a message that is refused takes nobody with it, neither of its batch nor of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_refused_does_not_undo_its_group() -> Result<()> {
    let folder = Folder::new("sqlite-group")?;
    let path = folder.join("starling.db");
    let store = std::sync::Arc::new(SqliteStore::open(&path, SqliteConfig::default())?);
    store.migrate().await?;
    let id = store.create(&new("c")).await?.id;
    // Somebody at a console forbids a word, so that some appends fail in the middle of their batch.
    rusqlite::Connection::open(&path)?.execute_batch(
        "CREATE TRIGGER forbidden BEFORE INSERT ON messages WHEN new.content = 'forbidden'
         BEGIN SELECT raise(ABORT, 'forbidden'); END",
    )?;
    let mut calls: JoinSet<Result<(bool, bool)>> = JoinSet::new();
    for number in 0..60 {
        let store = std::sync::Arc::clone(&store);
        calls.spawn(async move {
            let fails = number % 3 == 0;
            let last = if fails { "forbidden" } else { "fine" };
            let batch =
                [message(id, &format!("{number}a"), "fine"), message(id, &format!("{number}b"), last)];
            let answer = store.append(&batch).await;
            let mark = ReadMark { conversation: id, user: "owner".into(), seq: Seq::new(1) };
            store.mark_read(&[mark]).await?;
            let answers = answer?;
            ensure!(answers.len() == 2 && answers[0].is_ok(), "{answers:?}");
            Ok((fails, answers[1] == Err(AppendError::Refused)))
        });
    }
    while let Some(call) = calls.join_next().await {
        let (fails, failed) = call??;
        assert_eq!(fails, failed);
    }
    let page = store.messages(id, Range::After(Seq::ZERO), 1_000, usize::MAX, true).await?;
    let seqs: Vec<u64> = page.messages.iter().map(|m| m.seq.get()).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>(), "two of each of forty and one of twenty, without a hole");
    assert_eq!(store.heads(&[id]).await?.first().map(|head| head.head), Some(Seq::new(100)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_erased_piece_by_piece_and_after_a_restart() -> Result<()> {
    let folder = Folder::new("sqlite-erase")?;
    let path = folder.join("starling.db");
    let store = SqliteStore::open(&path, SqliteConfig::default())?;
    store.migrate().await?;
    let [one, other] = [store.create(&new("one")).await?.id, store.create(&new("other")).await?.id];
    for id in [one, other] {
        let batch: Vec<Append> = (0..12_000).map(|key| message(id, &key.to_string(), "x")).collect();
        store.append(&batch).await?;
    }
    ensure!(store.delete(one).await? && store.delete(other).await?);
    let count = "SELECT (SELECT count(*) FROM messages) + 100000 * (SELECT count(*) FROM erasures)";
    let console = rusqlite::Connection::open(&path)?;
    let left = || console.query_row(count, [], |row| row.get::<_, i64>(0));
    assert_eq!(left()?, 224_000, "whoever deletes does not wait");
    ensure!(store.erase().await?);
    assert_eq!(left()?, 219_000, "a piece");

    drop(store);
    let next = SqliteStore::open(&path, SqliteConfig::default())?;
    next.migrate().await?;
    assert_eq!(left()?, 219_000, "nor does a start");
    while next.erase().await? {}
    assert_eq!(left()?, 0);
    Ok(())
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

fn message(conversation: ConversationId, key: &str, content: &str) -> Append {
    Append::of_user(uuid::Uuid::now_v7(), conversation, "owner", key, content)
}

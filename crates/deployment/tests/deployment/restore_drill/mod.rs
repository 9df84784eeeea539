//! The drill of a restore: PostgreSQL archives by `deploy/backup` and the settings of docs/operating/back-up.md while two users talk, its
//! server dies, and another one begins from the archive.

mod archive;
mod talk;

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;
use starling_testkit::http::Request;
use starling_testkit::node::{Node, SECRET, program};
use starling_testkit::postgres::{Postgres, folder_for_server};
use starling_testkit::redis::Redis;
use tokio::sync::watch;

use talk::{PATIENCE, Reader, Sent, Talk};

/// Most pages of a log that are read.
const PAGES_MAX: usize = 1_000;

/// A message as a node tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    seq: u64,
    id: String,
    sender: String,
    content: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_lost_comes_back_as_it_was_between_two_messages() -> Result<()> {
    let archive = folder_for_server("archive")?;
    // The repository may lie where PostgreSQL's user can't read.
    let scripts = folder_for_server("scripts")?;
    for name in ["archive.sh", "backup.sh", "restore.sh"] {
        scripts.write(name, &fs::read_to_string(repository("deploy/backup").join(name))?)?;
    }
    let settings = archive::documented_settings(scripts.path(), archive.path())?;
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (postgres, redis) = tokio::try_join!(Postgres::start_with(&settings), Redis::start())?;
    let nodes = [start("one", &postgres, &redis).await?, start("two", &postgres, &redis).await?];
    let mut bob = Reader::connect(&nodes[1], "bob").await?;
    let mut talk = Talk::begin(&nodes[0], &mut bob).await?;
    let (end, listening) = watch::channel(u64::MAX);
    let bob = tokio::spawn(bob.listen(listening));

    talk.goes_on().await?;
    archive::take_base_backup(&postgres, &scripts, archive.path()).await?;
    talk.goes_on().await?;
    let asked = Instant::now();
    let moment = postgres.psql("SELECT clock_timestamp()").await?.trim().to_owned();
    let told = Instant::now();
    talk.goes_on().await?;
    let archived_up_to = talk.newest()?;
    let recovery_point = archive::wait_until_archived(&postgres).await?;
    talk.goes_on().await?;
    let sent = talk.end().await?;
    let head = sent.last().context("nothing was sent")?.seq;
    end.send(head).context("Bob has stopped listening")?;
    let mut bob = tokio::time::timeout(PATIENCE, bob).await.context("Bob does not hear all")???;
    let before = log(&nodes[0], head + 1).await?;
    ensure!(before.len() as u64 == head, "{} of {head} messages", before.len());

    // The server and its disk are gone.
    postgres.crash().await?;
    for node in &nodes {
        node.kill().await?;
    }
    drop(postgres);
    let since = Instant::now();
    let postgres = archive::restore(&scripts, archive.path(), "moment", Some(&moment)).await?;
    migrate_restored(&postgres).await?;
    let nodes = [start("three", &postgres, &redis).await?, start("four", &postgres, &redis).await?];
    let mut ada = Reader::connect(&nodes[0], "ada").await?;
    let first = ada.say("after the restore").await?;
    let recovery_time = since.elapsed();

    let kept = first - 1;
    for Sent { seq, begun, answered } in &sent {
        ensure!(*answered > asked || *seq <= kept, "{seq} was committed before the moment, and is gone");
        ensure!(*begun < told || *seq > kept, "{seq} was sent after the moment, and is there");
    }
    for node in &nodes {
        let mut after = log(node, head + 1).await?;
        let newest = after.pop().context("an empty log")?;
        ensure!(newest.content == "after the restore", "{newest:?}");
        is_prefix(&after, &before)?;
        ensure!(after.len() as u64 == kept, "{} messages of {kept}", after.len());
    }
    // The numbers of what was lost are given again, until Bob's cursor stands among other messages.
    let mut written = first;
    while written < head + 3 {
        written = ada.say(&format!("again {written}")).await?;
    }
    let told = bob.comes_back(&nodes[0]).await?;
    ensure!(told["reset"] == true && told["head"] == written, "Bob is told {told}");
    let replayed = told["replayed"].as_u64().context("replayed")?;
    for seq in written + 1 - replayed..=written {
        let expected = match before.get(usize::try_from(seq - 1)?).filter(|_| seq <= kept) {
            Some(message) => message.content.clone(),
            None if seq == first => "after the restore".to_owned(),
            None => format!("again {}", seq - 1),
        };
        ensure!(bob.message().await? == (seq, expected), "the replay differs at {seq}");
    }
    drop(nodes);
    drop(postgres);

    // As far as the archive reaches: at least to what was archived, and the last messages are lost.
    let postgres = archive::restore(&scripts, archive.path(), "end", None).await?;
    let reached: u64 =
        postgres.psql("SELECT max(seq) FROM messages").await?.trim().parse().context("a number")?;
    ensure!(
        (archived_up_to..=head).contains(&reached),
        "{reached} is not within {archived_up_to} and {head}"
    );
    println!(
        "{head} messages, {kept} before the moment; a message was in the archive after {recovery_point:.1?} (recovery point); \
         the first message was taken {recovery_time:.1?} after the loss (recovery time); without a moment, {} messages are lost",
        head - reached
    );
    Ok(())
}

async fn migrate_restored(postgres: &Postgres) -> Result<()> {
    let mut migrate = tokio::process::Command::new(tokio::task::spawn_blocking(program).await??);
    migrate.args(["migrate", "--restored"]).env("DATABASE_URL", postgres.url()).kill_on_drop(true);
    let output = migrate.output().await.context("run starling migrate")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("has begun"), "{output:?}");
    Ok(())
}

async fn start(name: &str, postgres: &Postgres, redis: &Redis) -> Result<Node> {
    // A restore may take longer than a session usually waits for its client.
    let node =
        Node::builder().name(name).secret(SECRET).unlimited().env("STARLING_RESUME_WINDOW_SECONDS", "3600");
    node.redis(&redis.url()).database(&postgres.url()).start().await
}

/// The whole log, read over HTTP in pages; at most up to this number.
async fn log(node: &Node, limit: u64) -> Result<Vec<Message>> {
    let (mut log, mut after) = (Vec::new(), 0);
    for _ in 0..PAGES_MAX {
        let url = format!("{}/v1/conversations/c/messages?after={after}&limit=200", node.http_url());
        let answer = Request::new("GET", &url).bearer(&node.token("ada")).send().await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let page = answer.json()?;
        for message in page["messages"].as_array().context("a page without messages")? {
            let text = |name: &str| message[name].as_str().map(str::to_owned).context("a field");
            after = message["seq"].as_u64().context("a number")?;
            let (id, sender, content) = (text("id")?, text("sender")?, text("content")?);
            log.push(Message { seq: after, id, sender, content });
        }
        ensure!(after <= limit, "a message {after}, though there were only {limit}");
        if page["more"] == false {
            return Ok(log);
        }
    }
    anyhow::bail!("the log has no end")
}

/// Fails unless a log is the beginning of another one, message by message.
fn is_prefix(log: &[Message], whole: &[Message]) -> Result<()> {
    for (message, expected) in log.iter().zip(whole) {
        ensure!(message == expected, "{expected:?} became {message:?}");
    }
    ensure!(log.len() <= whole.len(), "{} messages became {}", whole.len(), log.len());
    Ok(())
}

#[test]
fn a_message_that_is_altered_swapped_or_too_many_is_found() {
    let message = |seq: u64, content: &str| Message {
        seq,
        id: seq.to_string(),
        sender: "ada".to_owned(),
        content: content.to_owned(),
    };
    let whole = [message(1, "a"), message(2, "b"), message(3, "c")];
    assert!(is_prefix(&whole[..2], &whole).is_ok());
    assert!(is_prefix(&[message(1, "a"), message(2, "x")], &whole).is_err());
    assert!(is_prefix(&[message(2, "b"), message(1, "a")], &whole).is_err());
    assert!(is_prefix(&whole, &whole[..2]).is_err());
}

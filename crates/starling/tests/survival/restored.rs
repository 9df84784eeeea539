//! A database that is restored to an earlier state, with running and with stopped nodes: every client learns that
//! its messages no longer exist.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::Folder;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, SECRET, program};
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::TURN;
use crate::talk::{message, say};

/// Timeout for everything, even on a busy machine. A node that nothing else tells compares its conversations with the database once a
/// minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// Restores a dump while the nodes run; new messages then exceed the cursors of all clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_nodes_that_run_are_closed_and_come_back_to_a_reset() -> Result<()> {
    let _turn = TURN.lock().await;
    let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start())?;
    let nodes = [start("one", &postgres, &redis).await?, start("two", &postgres, &redis).await?];
    let mut ada = Reader::new(&nodes[0], "ada").await?;
    ada.client.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
    let mut bob = Reader::new(&nodes[1], "bob").await?;
    for reader in [&mut ada, &mut bob] {
        reader.join().await?;
    }
    for n in 1..=3 {
        say(&mut ada.client, "c", &format!("before {n}")).await?;
    }
    let dump = postgres.dump("starling", &[]).await?;
    for n in 4..=6 {
        say(&mut ada.client, "c", &format!("lost {n}")).await?;
    }
    for reader in [&mut ada, &mut bob] {
        reader.hears(6).await?;
    }
    postgres.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION starling").await?;
    postgres.restore("starling", &dump).await?;
    for reader in [&mut ada, &mut bob] {
        let closed = reader.client.closed(PATIENCE).await?;
        ensure!(closed.code == Some(1012), "{closed:?}");
    }
    // Another user's messages exceed the number that both of them have.
    let mut writer = Reader::new(&nodes[1], "ada").await?;
    for n in 4..=9 {
        ensure!(
            say(&mut writer.client, "c", &format!("after {n}")).await? == n,
            "the log goes on where it was"
        );
    }
    for (reader, node) in [(&mut ada, &nodes[1]), (&mut bob, &nodes[0])] {
        let told = reader.comes_back(node).await?;
        ensure!(told["reset"] == true && told["head"] == 9 && told["replayed"] == 9, "{told}");
        for n in 1..=9 {
            let expected = format!("{} {n}", if n <= 3 { "before" } else { "after" });
            ensure!(message(&mut reader.client).await? == (n, expected), "message {n}");
        }
    }
    Ok(())
}

/// How a node learns that the database has fewer messages than it once told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// It gives a number to a message that it gave to another one before.
    ByAppend,
    /// A node that missed something looks where its conversations stand.
    ByLook,
}

/// The database loses what it committed last, as by a failover to a standby that was behind: nothing but its numbers tells. All
/// conversations are short at once, and one report of one of them does for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_its_last_messages_is_noticed_by_its_numbers() -> Result<()> {
    const OTHERS: usize = 30;
    const SAID: &str = "the database was reset to an earlier state";
    let _turn = TURN.lock().await;
    for shows in [Shows::ByAppend, Shows::ByLook] {
        let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start())?;
        let nodes = [start("one", &postgres, &redis).await?, start("two", &postgres, &redis).await?];
        let mut ada = Reader::new(&nodes[0], "ada").await?;
        ada.client.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
        let mut bob = Reader::new(&nodes[1], "bob").await?;
        for n in 0..OTHERS {
            let other = format!("other{n}");
            ada.client.command("create", json!({"conversation": other, "members": ["bob"]})).await?;
            say(&mut ada.client, &other, "lost").await?;
            for reader in [&mut ada, &mut bob] {
                reader.client.command("join", json!({"conversation": other})).await?;
            }
        }
        for reader in [&mut ada, &mut bob] {
            reader.join().await?;
        }
        for n in 1..=3 {
            say(&mut ada.client, "c", &format!("before {n}")).await?;
        }
        for n in 4..=6 {
            say(&mut ada.client, "c", &format!("lost {n}")).await?;
        }
        for reader in [&mut ada, &mut bob] {
            reader.hears(6).await?;
        }
        let set_back = "DELETE FROM messages WHERE content LIKE 'lost%';
            UPDATE conversations SET head = CASE name WHEN 'c' THEN 3 ELSE 0 END";
        postgres.psql_in("starling", set_back).await?;
        let shown = async {
            match shows {
                Shows::ByAppend => is_said_after(&nodes[1]).await,
                Shows::ByLook => redis.stop(),
            }
        };
        // Both listen meanwhile: a client that does not answer a close is cut.
        let ((), ada_closed, bob_closed) =
            tokio::try_join!(shown, ada.client.closed(PATIENCE), bob.client.closed(PATIENCE))?;
        for closed in [ada_closed, bob_closed] {
            ensure!(closed.code == Some(1012), "{shows:?}: {closed:?}");
        }
        if shows == Shows::ByLook {
            redis.resume()?;
            is_said_after(&nodes[1]).await?;
        }
        for (reader, node) in [(&mut ada, &nodes[1]), (&mut bob, &nodes[0])] {
            let told = reader.comes_back(node).await?;
            ensure!(told["reset"] == true && told["head"] == 4 && told["replayed"] == 4, "{shows:?}: {told}");
            for n in 1..=4 {
                let expected = format!("{} {n}", if n <= 3 { "before" } else { "after" });
                ensure!(message(&mut reader.client).await? == (n, expected), "message {n}");
            }
        }
        let reports: Vec<usize> = nodes.iter().map(|node| node.log().matches(SAID).count()).collect();
        ensure!(reports.iter().sum::<usize>() >= 1, "{shows:?}: nobody said so");
        ensure!(reports.iter().all(|count| *count <= 1), "{shows:?}: said {reports:?} times by the nodes");
    }
    Ok(())
}

/// The operator stops the nodes, restores an older copy, runs `migrate --restored`, and starts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_migrate_restored_a_copy_of_the_disk_is_a_reset_too() -> Result<()> {
    let _turn = TURN.lock().await;
    for operator_says_so in [false, true] {
        let folder = Folder::new("restored")?;
        let file = folder.join("starling.db");
        let url = format!("sqlite://{}", file.display());
        let node = Node::builder().secret(SECRET).unlimited().env("STARLING_DRAIN_SECONDS", "1");
        let node = node.database(&url).start().await?;
        let mut ada = Reader::new(&node, "ada").await?;
        ada.client.command("create", json!({"conversation": "c"})).await?;
        ada.join().await?;
        say(&mut ada.client, "c", "before 1").await?;
        node.terminate(PATIENCE).await?;
        let copy = folder.join("copy.db");
        // Files that a clean stop leaves next to the database file belong to it.
        let parts = ["", "-wal"];
        for part in parts.map(|part| (beside(&file, part), beside(&copy, part))) {
            if part.0.exists() {
                std::fs::copy(part.0, part.1)?;
            }
        }
        node.start_again().await?;
        ada.comes_back(&node).await?;
        for n in 2..=4 {
            say(&mut ada.client, "c", &format!("lost {n}")).await?;
        }
        ada.hears(4).await?;
        node.terminate(PATIENCE).await?;
        for part in ["", "-wal", "-shm"].map(|part| (beside(&copy, part), beside(&file, part))) {
            if part.1.exists() {
                std::fs::remove_file(&part.1)?;
            }
            if part.0.exists() {
                std::fs::copy(part.0, part.1)?;
            }
        }
        if operator_says_so {
            let mut migrate = tokio::process::Command::new(program()?);
            migrate.args(["migrate", "--restored", "--database-url", &url]);
            let output = migrate.output().await.context("run starling migrate")?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success() && said.contains("has begun"), "{output:?}");
        }
        node.start_again().await?;
        let mut writer = Reader::new(&node, "ada").await?;
        for n in 2..=6 {
            say(&mut writer.client, "c", &format!("after {n}")).await?;
        }
        let told = ada.comes_back(&node).await?;
        // A copy of the file looks like the original, which is why the option exists.
        ensure!(told["reset"] == operator_says_so, "{told}");
    }
    Ok(())
}

/// Somebody else sends the fourth message, on another socket where one is closed before it has its answer.
async fn is_said_after(node: &Node) -> Result<()> {
    let send = json!({"conversation": "c", "key": "after", "content": "after 4"});
    let sent = wait::until(PATIENCE, "a message to be taken", async || {
        let mut writer = Reader::new(node, "ada").await?;
        Ok(writer.client.command("send", send.clone()).await.ok())
    });
    ensure!(sent.await?["seq"] == 4, "the log goes on where it was");
    Ok(())
}

fn beside(file: &std::path::Path, part: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(part);
    name.into()
}

async fn start(name: &str, postgres: &Postgres, redis: &Redis) -> Result<Node> {
    let node = Node::builder().name(name).secret(SECRET).unlimited();
    node.redis(&redis.url()).database(&postgres.url()).start().await
}

/// Client that keeps its cursor with its log.
struct Reader {
    user: &'static str,
    client: Client,
    resume: Value,
}

impl Reader {
    async fn new(node: &Node, user: &'static str) -> Result<Reader> {
        let mut client = Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await?;
        client.set_patience(PATIENCE);
        Ok(Reader { user, client, resume: json!({"cursors": {}}) })
    }

    async fn join(&mut self) -> Result<()> {
        let joined = self.client.command("join", json!({"conversation": "c"})).await?;
        self.resume["cursors"]["c"] = json!({"seq": joined["head"], "log": joined["log"]});
        Ok(())
    }

    /// Receives the messages up to this number.
    async fn hears(&mut self, head: u64) -> Result<()> {
        while message(&mut self.client).await?.0 < head {}
        self.resume["cursors"]["c"]["seq"] = json!(head);
        Ok(())
    }

    /// Resumes; returns the state of the conversation in the reply.
    async fn comes_back(&mut self, node: &Node) -> Result<Value> {
        for field in ["session", "ticket"] {
            self.resume[field] = self.client.welcome()[field].clone();
        }
        let (token, resume) = (node.token(self.user), self.resume.clone());
        self.client = Client::resume(&node.ws_url(), &token, Encoding::Json, resume).await?;
        self.client.set_patience(PATIENCE);
        let welcome = self.client.welcome();
        ensure!(welcome["resumed"] == true, "{welcome}");
        let told = welcome["conversations"]["c"].clone();
        self.resume["cursors"]["c"] = json!({"seq": told["head"], "log": told["log"]});
        Ok(told)
    }
}

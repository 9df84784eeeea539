//! How soon somebody's messages are taken while one user reads all that there is, beside a node at rest, in one run. A slow machine is slow
//! for both: what is timed is only compared, and what is counted is how many of the reads come before a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::wait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{SOON, TURN};

/// How many messages are measured in one go.
const SENDS: usize = 15;
/// How often rest and attack take turns.
const PARTS: usize = 3;
/// How many times as long a message may take under attack even where many reads come before it: attackers and node share the machine, and a
/// disk that is slow to commit lets many reads pass.
const SLOWER_MAX: u32 = 4;
/// How many conversations that do not exist a resume names.
const INVENTED: usize = 1_000;

/// A message that was sent and taken.
#[derive(Clone, Copy)]
struct Taken {
    time: Duration,
    /// How many answers the attackers got meanwhile.
    answers: u64,
}

/// One socket of the user who reads.
enum Reader {
    /// Asks for a page.
    History(Box<Client>),
    /// Resumes its session on another socket, and names what is not there.
    Resume { url: String, token: String, resume: Value },
}

impl Reader {
    async fn ask(&mut self) -> Result<()> {
        match self {
            Reader::History(client) => {
                client.command("history", json!({"conversation": "c"})).await?;
            }
            Reader::Resume { url, token, resume } => {
                let client = Client::resume(url, token, Encoding::Json, resume.clone()).await?;
                ensure!(client.welcome()["resumed"] == true, "{}", client.welcome());
                resume["ticket"] = client.welcome()["ticket"].clone();
                client.cut();
            }
        }
        Ok(())
    }
}

/// Readers, each of which asks, waits for the answer, and asks again, while they are told to.
struct Attack {
    readers: u64,
    goes_on: watch::Sender<bool>,
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
}

impl Attack {
    fn of(readers: Vec<Reader>) -> Self {
        let (goes_on, _) = watch::channel(false);
        let (asked, answered) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (count, mut tasks) = (readers.len() as u64, JoinSet::new());
        for mut reader in readers {
            let (asked, answered, mut goes_on) = (asked.clone(), answered.clone(), goes_on.subscribe());
            tasks.spawn(async move {
                while goes_on.wait_for(|goes_on| *goes_on).await.is_ok() {
                    asked.fetch_add(1, Ordering::SeqCst);
                    reader.ask().await?;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            });
        }
        Self { readers: count, goes_on, asked, answered, tasks }
    }

    fn answers(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Has everybody ask, and waits until each has had an answer or more: all ask again by then.
    async fn begin(&self) -> Result<()> {
        let before = self.answers();
        self.goes_on.send_replace(true);
        wait::until_true(SOON, "the attack to begin", async || Ok(self.answers() >= before + self.readers))
            .await
    }

    /// Has nobody ask any more, and waits for the last answers.
    async fn pause(&mut self) -> Result<()> {
        self.goes_on.send_replace(false);
        wait::until_true(SOON, "the attack to end", async || {
            Ok(self.asked.load(Ordering::SeqCst) == self.answers())
        })
        .await?;
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.context("an attacker"),
        }
    }
}

/// Sends of somebody else, at rest and under attack in turns.
async fn compare(node: &Node, mut attack: Attack) -> Result<()> {
    let mut client = Client::connect(&node.ws_url(), &node.token("quiet"), Encoding::Json).await?;
    client.set_patience(SOON);
    client.command("create", json!({"conversation": "quiet"})).await?;
    let (mut at_rest, mut attacked) = (Vec::new(), Vec::new());
    for part in 0..PARTS {
        at_rest.extend(sends(&mut client, &attack, &format!("r{part}")).await?);
        attack.begin().await?;
        attacked.extend(sends(&mut client, &attack, &format!("a{part}")).await?);
        attack.pause().await?;
    }
    let (rest, under) = (median(&at_rest, |taken| taken.time), median(&attacked, |taken| taken.time));
    let (before, all) = (median(&attacked, |taken| taken.answers), attack.readers);
    println!("at rest {rest:?}, under attack {under:?}, after {before} answers to {all} readers (medians)");
    ensure!(
        before < all / 2 || under <= rest * SLOWER_MAX,
        "a message is taken after {before} of the reads of {all} sockets, in {under:?}; at rest in {rest:?}"
    );
    Ok(())
}

async fn sends(client: &mut Client, attack: &Attack, name: &str) -> Result<Vec<Taken>> {
    let mut all = Vec::with_capacity(SENDS);
    for n in 0..SENDS {
        let fields = json!({"conversation": "quiet", "key": format!("{name}-{n}"), "content": "x"});
        let (began, answers) = (Instant::now(), attack.answers());
        client.command("send", fields).await?;
        all.push(Taken { time: began.elapsed(), answers: attack.answers() - answers });
    }
    Ok(all)
}

fn median<T: Ord + Copy>(all: &[Taken], of: impl Fn(&Taken) -> T) -> T {
    let mut values: Vec<T> = all.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// A node with few connections to its database, and nothing that cuts an attack short.
async fn node(database: &str) -> Result<Node> {
    let database = Postgres::shared().await?.create_database(database).await?;
    Node::builder().database(&database).unlimited().env("STARLING_DATABASE_POOL_SIZE", "6").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_do_not_wait_for_hundreds_of_pages() -> Result<()> {
    const SOCKETS: usize = 300;
    let _turn = TURN.lock().await;
    let node = node("pace_pages").await?;
    let mut readers = Vec::new();
    for n in 0..SOCKETS {
        let mut client = Client::connect(&node.ws_url(), &node.token("loud"), Encoding::Json).await?;
        client.set_patience(SOON);
        if n == 0 {
            client.command("create", json!({"conversation": "c"})).await?;
            for key in 0..20 {
                let content = "x".repeat(200);
                let send = json!({"conversation": "c", "key": key.to_string(), "content": content});
                client.command("send", send).await?;
            }
        }
        readers.push(Reader::History(Box::new(client)));
    }
    compare(&node, Attack::of(readers)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_do_not_wait_for_resumes_that_name_what_is_not_there() -> Result<()> {
    const SOCKETS: usize = 60;
    let _turn = TURN.lock().await;
    let node = node("pace_resumes").await?;
    let (url, token) = (node.ws_url(), node.token("loud"));
    let mut readers = Vec::new();
    for _ in 0..SOCKETS {
        let client = Client::connect(&url, &token, Encoding::Json).await?;
        let (session, ticket) = (&client.welcome()["session"], &client.welcome()["ticket"]);
        let cursors: serde_json::Map<String, Value> =
            (0..INVENTED).map(|n| (format!("invented{n}"), json!(0))).collect();
        let resume = json!({"session": session, "ticket": ticket, "cursors": cursors});
        readers.push(Reader::Resume { url: url.clone(), token: token.clone(), resume });
        client.cut();
    }
    compare(&node, Attack::of(readers)).await
}

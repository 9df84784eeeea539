//! How soon somebody's messages are taken while one user reads all that there is, beside a node at rest, in one run. A slow machine is slow
//! for both: what is timed is only compared, and what is counted is how many of the reads come before a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::wait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{SOON, TURN};

/// How many commands are measured in one go.
const COMMANDS: usize = 15;
/// How often rest and attack take turns.
const PARTS: usize = 3;
/// How many times as long a message may take under attack even where many reads come before it: attackers and node share the machine, and a
/// disk that is slow to commit lets many reads pass.
const SLOWER_MAX: u32 = 4;
/// How many conversations that do not exist a resume names.
const INVENTED: usize = 1_000;

/// A command that was answered.
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
    /// Asks again while the node says that the database is not available: on a slow machine that may be so.
    async fn ask_until_answered(&mut self) -> Result<()> {
        loop {
            match self.ask().await {
                Err(error) if is_unavailable(&error) => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => return answer,
            }
        }
    }

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

fn is_unavailable(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<Failure>();
    refusal.is_some_and(|failure| matches!(failure, Failure::Refused(reply) if reply.code == "unavailable"))
}

/// Readers, each of which asks, waits for the answer, and asks again, while they are told to.
struct Attack {
    readers: u64,
    goes_on: watch::Sender<bool>,
    asked: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    /// Why a reader has ended.
    failure: Arc<Mutex<Option<String>>>,
    /// Ends with the attack.
    _tasks: JoinSet<()>,
}

impl Attack {
    fn of(readers: Vec<Reader>) -> Self {
        let (goes_on, _) = watch::channel(false);
        let (asked, answered) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let failure = Arc::<Mutex<Option<String>>>::default();
        let (count, mut tasks) = (readers.len() as u64, JoinSet::new());
        for mut reader in readers {
            let (asked, answered, failure) = (asked.clone(), answered.clone(), failure.clone());
            let mut goes_on = goes_on.subscribe();
            tasks.spawn(async move {
                while goes_on.wait_for(|goes_on| *goes_on).await.is_ok() {
                    asked.fetch_add(1, Ordering::SeqCst);
                    if let Err(error) = reader.ask_until_answered().await {
                        *failure.lock() = Some(format!("{error:#}"));
                        return;
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { readers: count, goes_on, asked, answered, failure, _tasks: tasks }
    }

    /// Fails if a reader has ended.
    fn check(&self) -> Result<()> {
        self.failure.lock().as_ref().map_or(Ok(()), |why| bail!("an attacker: {why}"))
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
            .or_else(|late| self.check().and(Err(late)))
    }

    /// Has nobody ask any more, and waits for the last answers.
    async fn pause(&self) -> Result<()> {
        self.goes_on.send_replace(false);
        wait::until_true(SOON, "the attack to end", async || {
            let is_over = self.asked.load(Ordering::SeqCst) == self.answers();
            Ok(is_over || self.failure.lock().is_some())
        })
        .await?;
        self.check()
    }
}

/// What is measured at rest and under attack.
#[derive(Clone, Copy)]
enum Measured {
    /// Messages of another user, which must not wait.
    MessagesOfAnother,
    /// Pages for the user who attacks. They wait in the line of this user's reads.
    PagesOfAttacker,
}

/// The medians of what was measured.
struct Comparison {
    at_rest: Duration,
    attacked: Duration,
    /// How many answers the attackers got before one that was measured.
    answers: u64,
    readers: u64,
}

impl Comparison {
    /// Whether what was measured waited for the attackers' reads.
    fn has_waited(&self) -> bool {
        self.answers >= self.readers / 2 && self.attacked > self.at_rest * SLOWER_MAX
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Comparison { at_rest, attacked, answers, readers } = self;
        write!(
            f,
            "at rest {at_rest:?}, under attack {attacked:?}, after {answers} answers to {readers} readers (medians)"
        )
    }
}

/// Checks that the messages of another user do not wait for an attack.
async fn messages_do_not_wait(node: &Node, attack: Attack) -> Result<()> {
    let comparison = compare(node, attack, Measured::MessagesOfAnother).await?;
    ensure!(!comparison.has_waited(), "messages wait for the reads: {comparison}");
    Ok(())
}

/// Measures at rest and under attack in turns.
async fn compare(node: &Node, attack: Attack, measured: Measured) -> Result<Comparison> {
    let user = match measured {
        Measured::MessagesOfAnother => "quiet",
        Measured::PagesOfAttacker => "loud",
    };
    let mut client = Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await?;
    client.set_patience(SOON);
    client.command("create", json!({"conversation": user})).await?;
    let (mut at_rest, mut attacked) = (Vec::new(), Vec::new());
    for part in 0..PARTS {
        at_rest.extend(measure(&mut client, &attack, measured, &format!("r{part}")).await?);
        attack.begin().await?;
        attacked.extend(measure(&mut client, &attack, measured, &format!("a{part}")).await?);
        attack.pause().await?;
    }
    let comparison = Comparison {
        at_rest: median(&at_rest, |taken| taken.time),
        attacked: median(&attacked, |taken| taken.time),
        answers: median(&attacked, |taken| taken.answers),
        readers: attack.readers,
    };
    println!("{comparison}");
    Ok(comparison)
}

async fn measure(client: &mut Client, attack: &Attack, measured: Measured, name: &str) -> Result<Vec<Taken>> {
    let mut all = Vec::with_capacity(COMMANDS);
    for n in 0..COMMANDS {
        let (command, fields) = match measured {
            Measured::MessagesOfAnother => {
                ("send", json!({"conversation": "quiet", "key": format!("{name}-{n}"), "content": "x"}))
            }
            Measured::PagesOfAttacker => ("history", json!({"conversation": "loud"})),
        };
        let (began, answers) = (Instant::now(), attack.answers());
        client.command(command, fields).await?;
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

/// Opens connections of one user, each of which asks for pages.
async fn page_readers(node: &Node, count: usize) -> Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for n in 0..count {
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
    Ok(readers)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_do_not_wait_for_hundreds_of_pages() -> Result<()> {
    let _turn = TURN.lock().await;
    let node = node("pace_pages").await?;
    let readers = page_readers(&node, 300).await?;
    messages_do_not_wait(&node, Attack::of(readers)).await
}

/// The control of the tests here: what does wait for the reads of all sockets is seen to wait.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_user_who_attacks_are_seen_to_wait() -> Result<()> {
    let _turn = TURN.lock().await;
    let node = node("pace_control").await?;
    let readers = page_readers(&node, 100).await?;
    let comparison = compare(&node, Attack::of(readers), Measured::PagesOfAttacker).await?;
    ensure!(comparison.has_waited(), "pages in one user's line did not wait: {comparison}");
    Ok(())
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
    messages_do_not_wait(&node, Attack::of(readers)).await
}

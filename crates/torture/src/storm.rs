//! `cargo xtask storm`: very many clients lose their node at the same moment and reconnect to the others, when they are told to. With
//! `--newcomers`, clients without a session connect at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::{Cluster, Node};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Members of each conversation.
const MEMBERS: usize = 100;
/// Clients that connect at the same time before the storm.
const AT_ONCE: usize = 64;
/// The largest number of sockets that a process can open to one address.
const SOCKETS_MAX: usize = 18_000;
/// The longest time for a client to connect.
const PATIENCE: Duration = Duration::from_secs(300);

/// Kills a node that holds very many clients, and measures how they come back to the others.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many clients the node holds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=18_000))]
    clients: u32,
    /// How many nodes survive
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    left: u8,
    /// How many new clients connect at that moment, beside those that come back
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=18_000))]
    newcomers: u32,
    /// A fixed limit on the handshakes per second that a node accepts, three for each session; 0 for none but its load
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Runs this program instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// The connects of one group of clients.
#[derive(Default)]
struct Arrivals {
    /// The time that each client took.
    took: Vec<Duration>,
    /// Number of refusals with a time to retry.
    sent_away: Arc<AtomicU64>,
    failed: u64,
}

/// Runs the storm. Returns whether all clients connected, and those that came back resumed their session.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let (clients, left) = (arguments.clients as usize, usize::from(arguments.left));
    let newcomers = arguments.newcomers as usize;
    ensure!(clients + newcomers <= SOCKETS_MAX, "at most {SOCKETS_MAX} clients and newcomers together");
    let program = crate::program::program(arguments.program.as_ref()).await?;
    let cluster = Cluster::builder(left + 1)
        .program(program)
        .unlimited()
        // The default.
        .env("STARLING_LIMIT_CONNECT_WAIT_SECONDS", "5")
        .env("STARLING_LIMIT_HANDSHAKES_PER_SECOND", &arguments.rate.to_string())
        .env("STARLING_SHED_ABOVE_PERCENT", "0")
        .start()
        .await?;
    println!("{clients} clients connect to one of {} nodes", left + 1);
    let crowd = gather(&cluster, clients).await?;
    let survivors: Vec<&Node> = cluster.nodes()[1..].iter().collect();
    let urls: Arc<Vec<String>> = Arc::new(survivors.iter().map(|node| node.ws_url()).collect());
    let cpu_before = cpu_of(&survivors)?;
    let (mut back, mut new) = (Arrivals::default(), Arrivals::default());
    let (begin, began) = watch::channel(false);
    let (mut coming_back, mut coming) = (JoinSet::new(), JoinSet::new());
    for (client, token) in crowd {
        coming_back.spawn(come_back(client, token, urls.clone(), back.sent_away.clone()));
    }
    for n in 0..newcomers {
        let token = cluster.token(&format!("new{n}"));
        coming.spawn(come_first(began.clone(), token, urls.clone(), new.sent_away.clone()));
    }
    cluster.node(0).kill().await?;
    let killed = Instant::now();
    let _ = begin.send(true);
    // Both at the same time, so that neither group is counted late.
    let (resumed, first) = tokio::join!(back.count(coming_back, killed), new.count(coming, killed));
    let (resumed, first) = (resumed?, first?);
    let cpu = cpu_of(&survivors)? - cpu_before;
    let afresh = resumed.iter().filter(|client| client.welcome()["resumed"] != true).count();
    back.print(&format!("after kill -9, {} of {clients} are back", back.took.len()))?;
    println!("  begun afresh {afresh:6} (their session was not resumed)");
    if newcomers > 0 {
        new.print(&format!("{} of {newcomers} newcomers are in", new.took.len()))?;
    }
    println!(
        "the others' CPU {cpu:.2} s in {:.2} s: {:.0} µs a client",
        killed.elapsed().as_secs_f64(),
        cpu * 1e6 / (back.took.len() + new.took.len()) as f64
    );
    for node in &survivors {
        println!("  {}: {} MiB", node.name(), node.rss_bytes()? >> 20);
    }
    drop((resumed, first));
    Ok(back.failed + new.failed == 0 && afresh == 0)
}

impl Arrivals {
    /// Waits for all clients, and keeps their connections.
    async fn count(&mut self, mut coming: JoinSet<Arrival>, since: Instant) -> Result<Vec<Client>> {
        let mut kept = Vec::with_capacity(coming.len());
        while let Some(came) = coming.join_next().await {
            match came? {
                Ok((at, client)) => {
                    self.took.push(at.saturating_duration_since(since));
                    kept.push(client);
                }
                Err(error) => {
                    self.failed += 1;
                    if self.failed == 1 {
                        println!("one did not get in: {error:#}");
                    }
                }
            }
        }
        self.took.sort_unstable();
        Ok(kept)
    }

    fn print(&self, title: &str) -> Result<()> {
        ensure!(!self.took.is_empty(), "nobody got in");
        let at = |part: f64| self.took[((self.took.len() - 1) as f64 * part) as usize].as_secs_f64();
        println!("{title}:");
        println!("  half       {:8.2} s", at(0.5));
        println!("  99 %       {:8.2} s", at(0.99));
        println!("  all        {:8.2} s", at(1.0));
        println!("  sent away  {:8} times, with a time to return", self.sent_away.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Connects clients to one node, each in a conversation.
async fn gather(cluster: &Cluster, clients: usize) -> Result<Vec<(Client, String)>> {
    let url = cluster.node(0).ws_url();
    let mut owner = Client::connect(&url, &cluster.token("owner"), Encoding::Json).await?;
    for conversation in 0..clients.div_ceil(MEMBERS) {
        let members: Vec<String> =
            (conversation * MEMBERS..((conversation + 1) * MEMBERS).min(clients)).map(user).collect();
        owner
            .command("create", json!({"conversation": format!("c{conversation}"), "members": members}))
            .await?;
    }
    let mut crowd = Vec::with_capacity(clients);
    let mut connecting = JoinSet::new();
    for n in 0..clients {
        if connecting.len() >= AT_ONCE {
            crowd.push(connecting.join_next().await.context("somebody connects")???);
        }
        let (url, token) = (url.clone(), cluster.token(&user(n)));
        connecting.spawn(async move {
            let mut client = connect(&url, &token).await?;
            client.command("join", json!({"conversation": format!("c{}", n / MEMBERS)})).await?;
            anyhow::Ok((client, token))
        });
    }
    while let Some(connected) = connecting.join_next().await {
        crowd.push(connected??);
    }
    Ok(crowd)
}

fn user(n: usize) -> String {
    format!("u{n}")
}

/// The time at which a client connected, and its connection.
type Arrival = Result<(Instant, Client)>;

/// Waits for the end of a client's socket, and resumes on one of the other nodes.
async fn come_back(
    mut client: Client,
    token: String,
    urls: Arc<Vec<String>>,
    sent_away: Arc<AtomicU64>,
) -> Arrival {
    let resume = {
        let welcome = client.welcome();
        json!({"session": welcome["session"], "ticket": welcome["ticket"], "cursors": {}})
    };
    client.closed(PATIENCE).await?;
    drop(client);
    persist(Some(resume), &token, &urls, &sent_away).await
}

/// Waits for the storm, and connects to one of the nodes.
async fn come_first(
    mut began: watch::Receiver<bool>,
    token: String,
    urls: Arc<Vec<String>>,
    sent_away: Arc<AtomicU64>,
) -> Arrival {
    began.wait_for(|began| *began).await?;
    persist(None, &token, &urls, &sent_away).await
}

/// Tries to connect to any node until it works. Waits as long as a refusal says.
async fn persist(resume: Option<Value>, token: &str, urls: &[String], sent_away: &AtomicU64) -> Arrival {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(100);
    loop {
        let url = &urls[rand::rng().random_range(0..urls.len())];
        let attempt = match &resume {
            Some(resume) => Client::resume(url, token, Encoding::Json, resume.clone()).await,
            None => Client::connect(url, token, Encoding::Json).await,
        };
        let failure = match attempt {
            Ok(client) => return Ok((Instant::now(), client)),
            Err(failure) => failure,
        };
        ensure!(Instant::now() < deadline, "the last answer: {failure}");
        let told = time_to_return(&failure);
        sent_away.fetch_add(u64::from(told.is_some()), Ordering::Relaxed);
        // Without a time to retry: exponential backoff with jitter.
        pause = (pause * 2).min(Duration::from_secs(10));
        let wait = told.unwrap_or_else(|| pause.mul_f64(rand::rng().random_range(0.5..1.5)));
        tokio::time::sleep(wait).await;
    }
}

async fn connect(url: &str, token: &str) -> Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(url, token, Encoding::Json).await {
            Ok(client) => return Ok(client),
            Err(failure) => match time_to_return(&failure) {
                Some(wait) if Instant::now() < deadline => tokio::time::sleep(wait).await,
                _ => return Err(failure.into()),
            },
        }
    }
}

/// The time to retry that a refusal names.
fn time_to_return(failure: &Failure) -> Option<Duration> {
    let ms = match failure {
        Failure::NotUpgraded { status: 503 | 429, body } => {
            let body: Value = serde_json::from_str(body).ok()?;
            body["error"]["retry_after_ms"].as_u64()
        }
        Failure::Refused(error) => error.retry_after_ms,
        _ => None,
    };
    ms.map(Duration::from_millis)
}

fn cpu_of(nodes: &[&Node]) -> Result<f64> {
    nodes.iter().map(|node| node.cpu_seconds()).sum()
}

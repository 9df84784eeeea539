//! `cargo xtask storm`: very many clients lose their node at the same moment and come back to the others, as they are told to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::{Cluster, Node};
use tokio::task::JoinSet;

use crate::workspace;

/// Members of a conversation.
const MEMBERS: usize = 100;
/// How many clients connect at the same time before the storm.
const AT_ONCE: usize = 64;
/// How long a client may take to come back.
const PATIENCE: Duration = Duration::from_secs(300);

/// Kills a node that holds very many clients, and measures how they come back to the others.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many clients the node holds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=18_000))]
    clients: u32,
    /// How many nodes are left
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    left: u8,
    /// Handshakes a second that a node takes; 0: as many as come
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Runs this program, and builds none
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Runs it. Returns whether everybody came back, in the same session.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let (clients, left) = (arguments.clients as usize, usize::from(arguments.left));
    let program = match &arguments.program {
        Some(program) => std::path::absolute(program)?,
        None => workspace::build_program(true).await?,
    };
    let cluster = Cluster::builder(left + 1)
        .program(program)
        .unlimited()
        .env("STARLING_LIMIT_HANDSHAKES_PER_SECOND", &arguments.rate.to_string())
        .env("STARLING_SHED_ABOVE_PERCENT", "0")
        .start()
        .await?;
    println!("{clients} clients connect to one of {} nodes", left + 1);
    let crowd = gather(&cluster, clients).await?;
    let survivors: Vec<&Node> = cluster.nodes()[1..].iter().collect();
    let urls: Arc<Vec<String>> = Arc::new(survivors.iter().map(|node| node.ws_url()).collect());
    let cpu_before = cpu_of(&survivors)?;
    let sent_away = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut coming = JoinSet::new();
    for (client, token) in crowd {
        coming.spawn(come_back(client, token, urls.clone(), sent_away.clone()));
    }
    cluster.node(0).kill().await?;
    let killed = Instant::now();
    let (mut back, mut afresh, mut gone) = (Vec::with_capacity(clients), 0, 0);
    let mut kept = Vec::with_capacity(clients);
    while let Some(came) = coming.join_next().await {
        match came? {
            Ok((at, client)) => {
                afresh += u64::from(client.welcome()["resumed"] != true);
                back.push(at.saturating_duration_since(killed));
                kept.push(client);
            }
            Err(error) => {
                gone += 1;
                if gone == 1 {
                    println!("one did not come back: {error:#}");
                }
            }
        }
    }
    let cpu = cpu_of(&survivors)? - cpu_before;
    ensure!(!back.is_empty(), "nobody came back");
    back.sort_unstable();
    let at = |part: f64| back[((back.len() - 1) as f64 * part) as usize].as_secs_f64();
    println!("after kill -9, {} of {clients} are back:", back.len());
    println!("  half       {:8.2} s", at(0.5));
    println!("  99 %       {:8.2} s", at(0.99));
    println!("  all        {:8.2} s", at(1.0));
    println!("  sent away  {:8} times, with a time to return", sent_away.load(Ordering::Relaxed));
    println!("  begun afresh {afresh:6} (their session was not resumed)");
    println!(
        "  the others' CPU {:.2} s in {:.2} s: {:.0} µs a client",
        cpu,
        begun.elapsed().as_secs_f64(),
        cpu * 1e6 / back.len() as f64
    );
    for node in &survivors {
        println!("  {}: {} MiB", node.name(), node.rss_bytes()? >> 20);
    }
    drop(kept);
    Ok(gone == 0 && afresh == 0)
}

/// Clients of one node, each in a conversation.
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

/// Waits for the end of its socket, and resumes at one of the other nodes.
async fn come_back(
    mut client: Client,
    token: String,
    urls: Arc<Vec<String>>,
    sent_away: Arc<AtomicU64>,
) -> Result<(Instant, Client)> {
    let resume = {
        let welcome = client.welcome();
        json!({"session": welcome["session"], "ticket": welcome["ticket"], "cursors": {}})
    };
    let deadline = Instant::now() + PATIENCE;
    client.closed(PATIENCE).await?;
    drop(client);
    let mut pause = Duration::from_millis(100);
    loop {
        let url = &urls[rand::rng().random_range(0..urls.len())];
        let failure = match Client::resume(url, &token, Encoding::Json, resume.clone()).await {
            Ok(client) => return Ok((Instant::now(), client)),
            Err(failure) => failure,
        };
        ensure!(Instant::now() < deadline, "the last answer: {failure}");
        let told = time_to_return(&failure);
        sent_away.fetch_add(u64::from(told.is_some()), Ordering::Relaxed);
        // Whoever is told nothing waits longer each time, and not all of them equally long.
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

/// What a node that sends somebody away says about when to return.
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

//! A conversation does not break: many members in many conversations over three nodes, all of them sending, while sockets are cut at
//! random and resumed elsewhere, and while something larger is broken on purpose. In the end what every client saw is compared with
//! what the database holds: lost, doubled, out of order and altered must all be 0.
//!
//! Each case runs for a short while here. `STARLING_UNBROKEN_SECONDS=60 cargo test -p starling --test unbroken` runs longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use starling_testkit::client::{Encoding, Failure, Log, RecordingClient, Verdict};
use starling_testkit::node::Cluster;

const MEMBERS: usize = 200;
const CONVERSATIONS: usize = 50;
const NODES: usize = 3;
/// How long a send may take over all its retries, faults included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last message may take to everybody after the sends have ended.
const SETTLE: Duration = Duration::from_secs(30);

/// What is broken on purpose, besides sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing else.
    None,
    /// kill -9 of one node after the other; each comes back under a new name.
    KillNodes,
    /// FLUSHALL, again and again.
    WipeRedis,
    /// SIGSTOP of Redis for some seconds, then SIGCONT.
    HangRedis,
    /// SIGKILL of Redis, and a new, empty one in its place.
    KillRedis,
    /// The database's connections are cut, again and again.
    CutDatabase,
}

#[tokio::test(flavor = "multi_thread")]
async fn while_sockets_are_cut_and_resumed_elsewhere() -> Result<()> {
    unbroken(Fault::None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nodes_are_killed() -> Result<()> {
    unbroken(Fault::KillNodes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_wiped() -> Result<()> {
    unbroken(Fault::WipeRedis).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_hangs() -> Result<()> {
    unbroken(Fault::HangRedis).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_killed() -> Result<()> {
    unbroken(Fault::KillRedis).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_database_connections_are_cut() -> Result<()> {
    unbroken(Fault::CutDatabase).await
}

/// One at a time: the machine is small, and a fault of one case must not be that of another.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn unbroken(fault: Fault) -> Result<()> {
    let _turn = TURN.lock().await;
    let lasts = seconds();
    let mut cluster =
        Cluster::builder(NODES).unlimited().env("RUST_LOG", "info,starling_hub=debug").start().await?;
    let scene = Arc::new(Scene::new(&cluster));
    make_conversations(&scene).await?;
    let members: Vec<_> = (0..MEMBERS).map(|n| tokio::spawn(member(scene.clone(), n))).collect();
    let faults = inject(&mut cluster, &scene, fault, lasts).await?;
    scene.stop.store(true, Ordering::Relaxed);
    let sent_by = Instant::now();
    // Every member sends what it began, and then waits for what the log holds.
    let mut clients = Vec::with_capacity(MEMBERS);
    for member in members {
        clients.push(member.await??);
    }
    if std::env::var_os("STARLING_UNBROKEN_LOGS").is_some() {
        for node in cluster.nodes() {
            println!("{}", node.log());
        }
    }
    let log = Arc::new(read_log(&cluster).await?);
    let mut listening = Vec::with_capacity(MEMBERS);
    for (n, client) in clients.into_iter().enumerate() {
        listening.push(tokio::spawn(finish(scene.clone(), n, client, log.clone())));
    }
    let mut verdict = Verdict::default();
    for listened in listening {
        verdict = verdict + listened.await??;
    }
    println!(
        "{fault:?}: {lasts:?}, {faults} faults, {} cuts, {} in the log, {} acknowledged, {} shown, lost {}, doubled {}, out of \
         order {}, altered {}, unkept {}; settled {:.1} s after the end",
        scene.cuts.load(Ordering::Relaxed),
        log.messages(),
        verdict.acknowledged,
        verdict.messages,
        verdict.lost,
        verdict.doubled,
        verdict.out_of_order,
        verdict.altered,
        verdict.unkept,
        sent_by.elapsed().as_secs_f32(),
    );
    ensure!(log.faults() == 0, "the log itself has {} faults", log.faults());
    ensure!(verdict.acknowledged > 100, "too little was said to show anything: {verdict:?}");
    ensure!(fault == Fault::None || faults > 0, "no fault was injected");
    ensure!(verdict.is_clean(), "{verdict:?}");
    Ok(())
}

/// What all members share.
struct Scene {
    urls: parking_lot::Mutex<Vec<String>>,
    tokens: Vec<String>,
    stop: AtomicBool,
    cuts: AtomicU64,
}

impl Scene {
    fn new(cluster: &Cluster) -> Scene {
        Scene {
            urls: parking_lot::Mutex::new(cluster.ws_urls()),
            tokens: (0..MEMBERS).map(|n| cluster.token(&user(n))).collect(),
            stop: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
        }
    }

    fn urls(&self) -> Vec<String> {
        self.urls.lock().clone()
    }

    fn somewhere(&self) -> String {
        let urls = self.urls();
        urls[rand::rng().random_range(0..urls.len())].clone()
    }
}

fn user(n: usize) -> String {
    format!("u{n}")
}

/// Each member is in two conversations, so that each conversation has eight members, on all nodes.
fn conversations_of(n: usize) -> [String; 2] {
    [format!("c{}", n % CONVERSATIONS), format!("c{}", (n + 7) % CONVERSATIONS)]
}

fn encoding(n: usize) -> Encoding {
    if n.is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack }
}

async fn make_conversations(scene: &Scene) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut owner = RecordingClient::connect(&scene.somewhere(), &scene.tokens[0], Encoding::Json).await?;
    for c in 0..CONVERSATIONS {
        let name = format!("c{c}");
        let members: Vec<String> =
            (0..MEMBERS).filter(|n| conversations_of(*n).contains(&name)).map(user).collect();
        let fields = serde_json::json!({ "conversation": name, "members": members });
        while let Err(failure) = owner.command("create", fields.clone()).await {
            ensure!(failure.code() == Some("unavailable") && Instant::now() < deadline, "create: {failure}");
        }
    }
    Ok(())
}

/// Sends, is cut, resumes elsewhere, and sends again, until told to stop.
async fn member(scene: Arc<Scene>, n: usize) -> Result<RecordingClient> {
    let token = scene.tokens[n].clone();
    let mut client = RecordingClient::connect(&scene.somewhere(), &token, encoding(n)).await?;
    for conversation in conversations_of(n) {
        client.join(&conversation).await?;
    }
    let mut sent = 0_u64;
    while !scene.stop.load(Ordering::Relaxed) {
        let (pause, cuts, first) = {
            let mut rng = rand::rng();
            (Duration::from_millis(rng.random_range(50..600)), rng.random_bool(0.08), rng.random_bool(0.5))
        };
        // Whatever ends the socket here, the next send resumes.
        if client.is_connected() && client.listen(pause).await.is_err() {
            client.cut();
        }
        if cuts {
            client.cut();
            scene.cuts.fetch_add(1, Ordering::Relaxed);
        }
        let conversation = &conversations_of(n)[usize::from(first)];
        sent += 1;
        let (key, content) = (format!("{n}-{sent}"), format!("message {sent} of {n}"));
        client
            .send_surely(&scene.urls(), conversation, &key, &content, PATIENCE)
            .await
            .with_context(|| key.clone())?;
    }
    Ok(client)
}

/// Listens until everything that the log holds has come, or its time is over.
async fn finish(scene: Arc<Scene>, n: usize, mut client: RecordingClient, log: Arc<Log>) -> Result<Verdict> {
    let deadline = Instant::now() + SETTLE;
    for conversation in conversations_of(n) {
        let head = log.head(&conversation);
        while Instant::now() < deadline && client.record().cursor(&conversation).unwrap_or(0) < head {
            if !client.is_connected() {
                client.resume_somewhere(&scene.urls(), SETTLE).await?;
            }
            match client.listen_until(&conversation, head, Duration::from_secs(2)).await {
                Ok(()) => {}
                Err(Failure::Other(_)) => {}
                Err(_) => client.cut(),
            }
        }
    }
    Ok(client.record().verdict(&log))
}

/// Breaks things until the time is over. Answers how often.
async fn inject(cluster: &mut Cluster, scene: &Scene, fault: Fault, lasts: Duration) -> Result<u64> {
    let until = Instant::now() + lasts;
    let mut count = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(3).min(until.saturating_duration_since(Instant::now()))).await;
        match fault {
            Fault::None => continue,
            Fault::KillNodes => {
                cluster.node(0).kill().await?;
                drop(cluster.remove_node(0));
                cluster.add_node().await?;
                *scene.urls.lock() = cluster.ws_urls();
            }
            Fault::WipeRedis => cluster.redis()?.flushall().await?,
            Fault::HangRedis => {
                cluster.redis()?.stop()?;
                tokio::time::sleep(Duration::from_secs(4)).await;
                cluster.redis()?.resume()?;
            }
            Fault::KillRedis => {
                cluster.redis()?.kill().await?;
                tokio::time::sleep(Duration::from_secs(2)).await;
                cluster.redis()?.restart().await?;
            }
            Fault::CutDatabase => {
                cluster.postgres()?.terminate_backends().await?;
            }
        }
        count += 1;
    }
    Ok(count)
}

async fn read_log(cluster: &Cluster) -> Result<Log> {
    let url = cluster.database_url();
    let database = url.rsplit('/').next().context("no database in the URL")?;
    let rows = cluster
        .postgres()?
        .psql_in(
            database,
            "select c.name || '|' || m.seq || '|' || m.id || '|' || m.sender || '|' || m.content \
             from messages m join conversations c on c.id = m.conversation_id",
        )
        .await?;
    let mut log = Log::default();
    for row in rows.lines() {
        let mut parts = row.splitn(5, '|');
        let mut part = || parts.next().context("a row of the log lacks a column");
        let (name, seq, id, sender, content) = (part()?, part()?, part()?, part()?, part()?);
        log.insert(name, seq.parse()?, id, sender, content);
    }
    Ok(log)
}

fn seconds() -> Duration {
    let seconds = std::env::var("STARLING_UNBROKEN_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

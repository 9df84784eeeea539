//! A node drained behind each load balancer under load: what its clients notice, and whether new clients still get in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Closed, Encoding, Log, RecordingClient, Verdict};
use starling_testkit::node::Cluster;
use tokio::task::JoinSet;

use super::SOON;
use super::balancer::{self, Balancer, assert_redirects, refused};
use super::kind::Kind;

const CONVERSATION: &str = "talk";
/// Long enough for the default notice of three seconds, and for a client that does not follow to be closed.
const DRAIN_SECONDS: &str = "12";
/// Between two messages, and between two looks of a client at what it was asked.
const TICK: Duration = Duration::from_millis(20);
/// Between two new clients.
const NEWCOMERS_EVERY: Duration = Duration::from_millis(100);
/// Between two tries of a client that is to move and was refused.
const RETRY: Duration = Duration::from_millis(200);

/// What a client saw that follows the protocol.
struct Followed {
    user: RecordingClient,
    /// The node where it is at the end.
    node: String,
    /// Time without any connection, over all moves.
    interrupted: Duration,
    /// Tries to move that were refused, while the old connection went on.
    refused: u32,
    moves: u32,
}

/// How new clients fared.
#[derive(Clone, Default)]
struct Newcomers {
    connected: u32,
    refused: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_behind_each_load_balancer_interrupts_no_client_that_follows_the_protocol() -> Result<()> {
    let cluster =
        Cluster::builder(2).unlimited().env("STARLING_DRAIN_SECONDS", DRAIN_SECONDS).start().await?;
    let (drained, staying) = (cluster.node(0), cluster.node(1));
    let balancers = balancer::all([drained, staying]).await?;
    for balancer in &balancers {
        assert_redirects(balancer).await?;
    }

    let mut sender =
        RecordingClient::connect(&staying.ws_url(), &cluster.token("sender"), Encoding::Json).await?;
    let members: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).chain(["reader"]).collect();
    sender.command("create", json!({"conversation": CONVERSATION, "members": members})).await?;
    sender.join(CONVERSATION).await?;
    let mut reader =
        RecordingClient::connect(&staying.ws_url(), &cluster.token("reader"), Encoding::Json).await?;
    reader.join(CONVERSATION).await?;

    let over = Arc::new(AtomicBool::new(false));
    let (mut followers, mut newcomers) = (JoinSet::new(), JoinSet::new());
    let mut stubborn = Vec::new();
    for (index, balancer) in balancers.iter().enumerate() {
        let (name, url) = (balancer.name(), balancer.ws_url());
        // `client_on` proves that this node takes clients through this load balancer.
        stubborn.push(balancer.client_on(drained, name).await.context(name)?);
        let user = follower(balancer, &cluster, drained.name()).await.context(name)?;
        let (over, token) = (Arc::clone(&over), cluster.token(name));
        followers.spawn({
            let (over, url) = (Arc::clone(&over), url.clone());
            async move { Ok::<_, anyhow::Error>((index, follow(user, &url, &over).await.context(name)?)) }
        });
        newcomers.spawn(async move {
            Ok::<_, anyhow::Error>((index, come_anew(&url, &token, &over).await.context(name)?))
        });
    }
    let sending = tokio::spawn(send(sender, Arc::clone(&over)));
    let reading = tokio::spawn(read(reader, Arc::clone(&over)));

    drained.begin_termination()?;
    for (client, balancer) in stubborn.iter_mut().zip(&balancers) {
        let Closed { code, reason } = client.closed(SOON).await.context(balancer.name())?;
        ensure!(
            code == Some(1012),
            "{} cut a client of the draining node: {code:?} {reason}",
            balancer.name()
        );
    }
    ensure!(drained.ended(SOON).await?.code() == Some(0), "the node did not end in good order");
    over.store(true, Ordering::SeqCst);

    let (sender, mut reader) = (sending.await??, reading.await??);
    let last = sender.record().cursor(CONVERSATION).context("nothing was sent")?;
    reader.listen_until(CONVERSATION, last, SOON).await?;
    let log = log_of(&cluster).await?;
    let mut records = vec![sender.record().verdict(&log), reader.record().verdict(&log)];
    println!("longest gap of a client that stays: {:?}", longest_gap(&reader));
    let mut fared = vec![Newcomers::default(); balancers.len()];
    while let Some(ended) = newcomers.join_next().await {
        let (index, newcomers) = ended??;
        fared[index] = newcomers;
    }
    while let Some(ended) = followers.join_next().await {
        let (index, mut followed) = ended??;
        let name = balancers[index].name();
        followed.user.listen_until(CONVERSATION, log.head(CONVERSATION), SOON).await.context(name)?;
        let verdict = followed.user.record().verdict(&log);
        let Newcomers { connected, refused } = fared[index];
        println!(
            "{name}: longest gap {:?}, without a connection {:?}, {} moves, {} of them refused first; newcomers: \
             {connected} connected, {refused} refused; {verdict}",
            longest_gap(&followed.user),
            followed.interrupted,
            followed.moves,
            followed.refused,
        );
        ensure!(followed.node == staying.name() && followed.moves > 0, "{name}: it did not move");
        // The node closes the old connection as soon as the new one has the session. A client on a busy machine may see that close before
        // the reply on the new one. A client that lost its connection earlier has failed in `follow`.
        ensure!(followed.interrupted < SOON, "{name}: no connection for {:?}", followed.interrupted);
        ensure!(connected > 0, "{name}: nobody came in");
        if retries_refused(name) {
            ensure!(refused + followed.refused == 0, "{name}: clients were refused though a node was ready");
        }
        records.push(verdict);
    }
    let verdict: Verdict = records.into_iter().sum();
    ensure!(verdict.is_clean() && log.faults() == 0 && log.repeated() == 0, "{verdict}");
    Ok(())
}

/// Whether this load balancer asks another node when one answers 503. Caddy and Traefik only avoid nodes that their checks have found not
/// to be ready.
fn retries_refused(name: &str) -> bool {
    [Kind::Nginx, Kind::HaProxy, Kind::Envoy].iter().any(|kind| kind.name() == name)
}

/// A user who has joined, on this node.
async fn follower(balancer: &Balancer, cluster: &Cluster, node: &str) -> Result<RecordingClient> {
    let mut elsewhere = Vec::new();
    for _ in 0..20 {
        let token = cluster.token(balancer.name());
        let mut user = RecordingClient::connect(&balancer.ws_url(), &token, Encoding::Json).await?;
        if user.client()?.welcome()["node"] == node {
            user.join(CONVERSATION).await?;
            return Ok(user);
        }
        elsewhere.push(user);
    }
    anyhow::bail!("none of 20 users was on {node}")
}

/// Sends and listens, and moves when asked to, as the protocol says: it opens a new connection, and reads the old one until that stands.
async fn follow(mut user: RecordingClient, url: &str, over: &AtomicBool) -> Result<Followed> {
    let (mut move_at, mut interrupted, mut refused_moves, mut moves) = (None, Duration::ZERO, 0, 0);
    let mut sent = 0;
    while !over.load(Ordering::SeqCst) {
        sent += 1;
        let text = format!("{url} {sent}");
        user.send(CONVERSATION, &text, &text).await.context("a send")?;
        user.listen(TICK * 5).await.context("the connection ended before the client had moved")?;
        if let Some(after) = user.take_draining() {
            move_at = Some(Instant::now() + after);
        }
        if move_at.is_some_and(|at| at <= Instant::now()) {
            match user.hand_over(url).await {
                Ok(resumed) => {
                    ensure!(resumed.resumed, "the session was not resumed");
                    interrupted += resumed.interrupted;
                    moves += 1;
                    move_at = None;
                }
                Err(failure) if refused(&failure) == Some(503) => {
                    refused_moves += 1;
                    move_at = Some(Instant::now() + RETRY);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
    let node = user.client()?.welcome()["node"].as_str().unwrap_or_default().to_owned();
    Ok(Followed { user, node, interrupted, refused: refused_moves, moves })
}

/// Connects again and again.
async fn come_anew(url: &str, token: &str, over: &AtomicBool) -> Result<Newcomers> {
    let mut newcomers = Newcomers::default();
    while !over.load(Ordering::SeqCst) {
        match Client::connect(url, token, Encoding::Json).await {
            Ok(client) => {
                newcomers.connected += 1;
                // The node may be gone already.
                let _ = client.close().await;
            }
            Err(failure) if refused(&failure) == Some(503) => newcomers.refused += 1,
            Err(failure) => return Err(failure.into()),
        }
        tokio::time::sleep(NEWCOMERS_EVERY).await;
    }
    Ok(newcomers)
}

async fn send(mut sender: RecordingClient, over: Arc<AtomicBool>) -> Result<RecordingClient> {
    let mut sent = 0;
    while !over.load(Ordering::SeqCst) {
        sent += 1;
        sender.send(CONVERSATION, &sent.to_string(), &sent.to_string()).await?;
        sender.listen(TICK).await?;
    }
    // Messages of others that were under way.
    sender.listen(TICK * 10).await?;
    Ok(sender)
}

async fn read(mut reader: RecordingClient, over: Arc<AtomicBool>) -> Result<RecordingClient> {
    while !over.load(Ordering::SeqCst) {
        reader.listen(TICK).await?;
    }
    Ok(reader)
}

/// The longest time between two messages that a user was shown.
fn longest_gap(user: &RecordingClient) -> Duration {
    let mut times: Vec<Instant> = user.record().shown().map(|(_, _, at)| at).collect();
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// What PostgreSQL holds.
async fn log_of(cluster: &Cluster) -> Result<Log> {
    let rows = "SELECT c.name, m.seq, m.id, m.sender, m.content FROM messages m \
                JOIN conversations c ON c.id = m.conversation_id";
    let mut log = Log::default();
    for row in cluster.postgres()?.psql(rows).await?.lines() {
        let columns: Vec<&str> = row.split('|').collect();
        let [name, seq, id, sender, content] = columns[..] else { anyhow::bail!("a strange row: {row}") };
        log.insert(name, seq.parse()?, id, sender, content);
    }
    Ok(log)
}

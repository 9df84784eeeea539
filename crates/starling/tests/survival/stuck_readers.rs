//! Five hundred readers of a busy conversation who stop reading, all at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Cluster, Node};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::TURN;
use crate::talk::{message, say};

const STUCK: usize = 500;
const CONTENT_BYTES: usize = 16 << 10;
/// What each of them misses: four times what a node keeps waiting for a socket.
const MESSAGES: u64 = 64;
/// What one of them may cost the node in memory. Some 150 KB wait for each in the end, but of the same frames: those that were published
/// are shared, and so are those that are read from the log for many at once.
const GROWTH_BYTES_MAX: u64 = 64 << 10;
/// How much longer a message may take in the median to the one who reads, because of those who don't: so many times as long, and this on
/// top, for machines on which it takes next to nothing.
const SLOWER_MAX: u32 = 10;
const DELAY_MAX: Duration = Duration::from_millis(500);
/// How long everything may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_stop_reading_cost_little_delay_nobody_and_lose_nothing() -> Result<()> {
    let _turn = TURN.lock().await;
    // Who does not read does not answer pings either, nor does it move where a node has many more clients than the others. That is
    // not what is tried here.
    let cluster = Cluster::builder(2)
        .unlimited()
        .env("STARLING_HEARTBEAT_SECONDS", "300")
        .env("STARLING_SHED_ABOVE_PERCENT", "0")
        .start()
        .await?;
    let node = cluster.node(0);
    let connect = async |node: &Node, user: &str| {
        Client::connect(&node.ws_url(), &cluster.token(user), Encoding::Json).await
    };
    let mut bob = connect(cluster.node(1), "bob").await?;
    bob.command("create", json!({"conversation": "c", "members": ["live", "stuck"]})).await?;
    let mut live = connect(node, "live").await?;
    live.command("join", json!({"conversation": "c"})).await?;
    let alone = talk(&mut bob, &mut live, 1..=MESSAGES).await?;

    let token = cluster.token("stuck");
    let mut stuck = Vec::with_capacity(STUCK);
    for _ in 0..STUCK {
        stuck.push(Stuck::join(node, &token).await?);
    }
    let before = node.rss_bytes()?;
    let beside = talk(&mut bob, &mut live, MESSAGES + 1..=2 * MESSAGES).await?;
    let after = node.rss_bytes()?;
    let dropped = node.metric("starling_drops_total", "kind=\"durable\"").await?;
    ensure!(dropped >= STUCK as f64, "only {dropped} were taken out of the live flow");
    let growth = after.saturating_sub(before);
    println!(
        "{STUCK} stuck readers, {} KiB each: the node grew by {} KiB; to the one who reads a message took {:.1} ms in the \
         median, {:.1} ms at most; without the stuck ones {:.1} ms, {:.1} ms",
        (MESSAGES as usize * CONTENT_BYTES) >> 10,
        growth >> 10,
        beside.0.as_secs_f64() * 1e3,
        beside.1.as_secs_f64() * 1e3,
        alone.0.as_secs_f64() * 1e3,
        alone.1.as_secs_f64() * 1e3,
    );
    ensure!(growth < STUCK as u64 * GROWTH_BYTES_MAX, "the node grew by {growth} bytes");
    ensure!(
        beside.0 <= alone.0 * SLOWER_MAX + DELAY_MAX,
        "a message takes {:?} beside the stuck ones, and {:?} without them",
        beside.0,
        alone.0
    );

    let reading = stuck.into_iter().map(|reader| reader.read(MESSAGES + 1..=2 * MESSAGES));
    timeout(LIMIT, futures_util::future::try_join_all(reading)).await.context("they are not caught up")??;
    Ok(())
}

/// Bob says these; the live reader is shown each. Answers how long that took in the median, and at most.
async fn talk(
    bob: &mut Client,
    live: &mut Client,
    numbers: std::ops::RangeInclusive<u64>,
) -> Result<(Duration, Duration)> {
    let mut took = Vec::new();
    for n in numbers {
        let begun = Instant::now();
        say(bob, "c", &content(n)).await?;
        let (seq, came) = message(live).await?;
        ensure!((seq, came) == (n, content(n)), "number {seq} came in the place of {n}");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok((took[took.len() / 2], took[took.len() - 1]))
}

fn content(n: u64) -> String {
    format!("{n:>CONTENT_BYTES$}")
}

/// A client whose kernel takes next to nothing for it, so that it is the node that has to keep what is not read.
struct Stuck(WebSocketStream<TcpStream>);

impl Stuck {
    async fn join(node: &Node, token: &str) -> Result<Stuck> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        let stream = socket.connect(node.address()).await?;
        let (socket, _) = tokio_tungstenite::client_async(node.ws_url(), stream).await?;
        let mut stuck = Stuck(socket);
        for (id, command) in [
            (1, json!({"id": 1, "op": "connect", "token": token})),
            (2, json!({"id": 2, "op": "join", "conversation": "c"})),
        ] {
            stuck.0.send(Message::text(command.to_string())).await?;
            while stuck.frame().await?["id"] != id {}
        }
        Ok(stuck)
    }

    async fn frame(&mut self) -> Result<Value> {
        loop {
            let message = timeout(LIMIT, self.0.next())
                .await
                .context("nothing came")?
                .context("the socket ended")??;
            if let Message::Text(text) = message {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    /// Reads on: exactly these messages have to come, in order.
    async fn read(mut self, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
        for n in numbers {
            let event = loop {
                let frame = self.frame().await?;
                if frame["ev"] == "message" {
                    break frame;
                }
            };
            ensure!(
                event["seq"] == n && event["content"] == content(n),
                "{} came in the place of {n}",
                event["seq"]
            );
        }
        Ok(())
    }
}

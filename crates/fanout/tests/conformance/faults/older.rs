//! Nodes of a version that keeps a hash and a stream for each topic, beside nodes of this one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use starling_fanout::{Position, partition_of};
use starling_testkit::redis::Redis;
use starling_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setting::{Kind, Node, Setting};
use crate::witness::{LIMIT, of_tenant};

const LANES: &str = "starling:v1:lanes";

/// A connection that is subscribed as an older node is. It is one until this is dropped.
struct OlderNode {
    stream: TcpStream,
}

impl OlderNode {
    async fn subscribe(redis: &Redis) -> Result<Self> {
        let mut stream = TcpStream::connect(redis.address()).await?;
        stream.write_all(format!("SUBSCRIBE {LANES}\r\n").as_bytes()).await?;
        let mut node = Self { stream };
        node.hears(b"subscribe").await?;
        Ok(node)
    }

    /// Waits until it has received these bytes.
    async fn hears(&mut self, expected: &[u8]) -> Result<()> {
        let mut heard = Vec::new();
        let reading = async {
            while !heard.windows(expected.len()).any(|part| part == expected) {
                ensure!(self.stream.read_buf(&mut heard).await? > 0, "the connection ended");
            }
            Ok(())
        };
        tokio::time::timeout(LIMIT, reading).await.context("an older node hears nothing")?
    }

    /// Closes the connection, and waits until Redis has noticed.
    async fn leave(self, redis: &Redis, others: usize) -> Result<()> {
        drop(self);
        let gone = async || {
            let subscribed = redis.cli(&["PUBSUB", "NUMSUB", LANES]).await?.texts();
            Ok(subscribed.get(1).is_some_and(|count| *count == others.to_string()))
        };
        wait::until_true(LIMIT, "the end of the older node", gone).await
    }
}

/// Publishes on the topic `x`, and remembers the position.
async fn publish(setting: &Setting, node: &Node, positions: &mut Vec<Position>) -> Result<Position> {
    let body = format!("number {}", positions.len());
    let position = node.fanout.publish_topics(&[setting.topic("x", body)]).await.remove(0)?;
    positions.push(position.clone());
    Ok(position)
}

/// Publishes until something is the case. Nodes look for older ones once a second.
async fn publish_until(
    setting: &Setting,
    node: &Node,
    positions: &mut Vec<Position>,
    mut is_so: impl AsyncFnMut(&Position) -> Result<bool>,
) -> Result<Position> {
    let begun = Instant::now();
    loop {
        let position = publish(setting, node, positions).await?;
        if is_so(&position).await? {
            return Ok(position);
        }
        ensure!(begun.elapsed() < LIMIT, "still not so after {} publications", positions.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The end of the frame of a publication as an older node reads it.
fn older_frame(offset: u64, tenant: &str, body: &str) -> Vec<u8> {
    let mut frame = offset.to_le_bytes().to_vec();
    for name in [tenant, "x"] {
        frame.extend((name.len() as u16).to_le_bytes());
        frame.extend(name.as_bytes());
    }
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(body.as_bytes());
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_has_one_numbering_while_older_nodes_come_and_go() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let tenant = setting.tenant();
    let key = format!("starling:v1:topic:{{{}}}:{tenant}/x", partition_of(&tenant, "x"));
    let older_offset = async || anyhow::Ok(redis.cli(&["HGET", &key, "offset"]).await?.integer());

    let mut positions = Vec::new();
    let body = |position: &Position, positions: &[Position]| {
        format!("number {}", positions.iter().position(|each| each == position).unwrap_or_default())
    };

    // Begun by this version: an older node would find nothing.
    let first = publish(&setting, &a, &mut positions).await?;
    assert_eq!((first.offset, older_offset().await?), (1, None));
    // One topic is enough for a table, which a batch of publications does not have to search.
    let encoding = redis.cli(&["OBJECT", "ENCODING", "starling:v1:numbers:{0}"]).await?;
    assert_eq!(encoding.text(), "hashtable");
    // It soon goes on where both find it, and the older node can read it.
    let mut older = OlderNode::subscribe(&redis).await?;
    let is_older = async |_: &Position| Ok(older_offset().await?.is_some());
    let shared = publish_until(&setting, &a, &mut positions, is_older).await?;
    assert_eq!(older_offset().await?, i64::try_from(shared.offset).ok());
    older.hears(&older_frame(shared.offset, &tenant, &body(&shared, &positions))).await?;
    let next = publish(&setting, &a, &mut positions).await?;
    assert_eq!(next, Position { offset: shared.offset + 1, ..first.clone() });
    let history = b.fanout.topic_history(&tenant, &"x".into(), Some(&shared)).await?;
    assert_eq!((history.recovered, &history.position), (true, &next));
    assert_eq!(history.publications, [(next.offset, Bytes::from(body(&next, &positions)))]);
    // The older node publishes.
    redis.cli(&["HINCRBY", &key, "offset", "1"]).await?;
    let after = publish(&setting, &a, &mut positions).await?;
    assert_eq!(after, Position { offset: next.offset + 2, ..first.clone() });

    // When it has gone, this version takes over. What was kept until then is not found.
    older.leave(&redis, 2).await?;
    let is_taken_over = async |_: &Position| Ok(older_offset().await?.is_none());
    let latest = publish_until(&setting, &b, &mut positions, is_taken_over).await?;
    let ask = async |offset| {
        let since = Position { offset, ..first.clone() };
        a.fanout.topic_history(&tenant, &"x".into(), Some(&since)).await
    };
    assert!(!ask(after.offset - 1).await?.recovered);
    let history = ask(latest.offset - 1).await?;
    assert_eq!(history.publications, [(latest.offset, Bytes::from(body(&latest, &positions)))]);

    // An older node that begins the topic anew while it is alone has another epoch, which is then everybody's.
    let run = redis.cli(&["INFO", "server"]).await?.text();
    let run = run.lines().find_map(|line| line.strip_prefix("run_id:")).context("a run")?.to_owned();
    let anew = ["HSET", &key, "epoch", "0123456789abcdef", "before", "", "offset", "7", "server", &run];
    redis.cli(&anew).await?;
    let older = OlderNode::subscribe(&redis).await?;
    let is_anew = async |position: &Position| Ok(position.epoch != first.epoch);
    let next = publish_until(&setting, &a, &mut positions, is_anew).await?;
    assert_eq!(next, Position { epoch: "0123456789abcdef".into(), offset: 8 });
    older.leave(&redis, 2).await?;
    let taken_over = publish_until(&setting, &a, &mut positions, is_taken_over).await?;
    assert_eq!(taken_over.epoch, next.epoch);

    // Each number was given once, and in order.
    for pair in positions.windows(2).filter(|pair| pair[0].epoch == pair[1].epoch) {
        let of_older_node = u64::from(pair[1] == after);
        assert_eq!(pair[1].offset, pair[0].offset + 1 + of_older_node);
    }
    // Both nodes heard the same.
    for node in [&a, &b] {
        let heard = node.inbox.wait_for(positions.len(), of_tenant(&tenant)).await?;
        let offsets: Vec<u64> = heard.iter().map(|(_, offset, _)| *offset).collect();
        assert_eq!(offsets, positions.iter().map(|position| position.offset).collect::<Vec<_>>());
    }
    Ok(())
}

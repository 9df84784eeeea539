//! What a publication costs over one Redis server: `cargo run --release -p starling-fanout --example cost`.
//!
//! Two nodes in this process, the first publishes bodies of 128 bytes to the second, over 64 conversations or topics.
//! "Under way" is how many calls are made at once. Processor time of this process (both nodes) and of Redis is per
//! publication, delivery included.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use starling_fanout::redis::{RedisConfig, RedisFanout};
use starling_fanout::{Delivery, Fanout, Publication, Receiver, TopicPublication, partition_of};
use starling_testkit::redis::Redis;
use starling_testkit::wait;

const TENANT: &str = "tenant";
const MEASURE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Count(AtomicU64);

impl Receiver for Count {
    fn receive(&self, delivery: Delivery) {
        if matches!(delivery, Delivery::Publication { .. } | Delivery::Topic { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Publish,
    PublishTopics,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let redis = Redis::start().await?;
    let writer = Arc::new(RedisFanout::connect(RedisConfig::new(redis.url().parse()?, "writer"))?);
    let reader = RedisFanout::connect(RedisConfig::new(redis.url().parse()?, "reader"))?;
    let count = Arc::new(Count::default());
    writer.start(Arc::new(Count::default())).await?;
    reader.start(count.clone()).await?;
    println!("| call | batch | under way | publications/s | µs per call | node CPU µs | Redis CPU µs |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for call in [Call::Publish, Call::PublishTopics] {
        for (batch, under_way) in [(1, 1), (16, 1), (128, 1), (1, 16), (16, 4), (128, 2)] {
            measure(call, batch, under_way, &writer, &count, redis.pid()).await?;
        }
    }
    Ok(())
}

async fn measure(
    call: Call,
    batch: usize,
    under_way: usize,
    writer: &Arc<RedisFanout>,
    count: &Arc<Count>,
    redis: u32,
) -> Result<()> {
    let before = count.0.load(Ordering::Relaxed);
    let (node, server, begun) = (cpu(std::process::id())?, cpu(redis)?, Instant::now());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..under_way {
        let writer = writer.clone();
        callers.spawn(async move { publish(call, batch, caller, begun, &writer).await });
    }
    let (mut calls, mut seconds) = (0, 0.0);
    while let Some(done) = callers.join_next().await {
        let (of_caller, busy) = done??;
        calls += of_caller;
        seconds += busy;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let published = (calls * batch) as u64;
    let arrived = async || Ok(count.0.load(Ordering::Relaxed) - before >= published);
    wait::until_true(Duration::from_secs(30), "all publications", arrived).await?;
    let each = published as f64 / 1e6;
    println!(
        "| {} | {batch} | {under_way} | {:.0} | {:.0} | {:.2} | {:.2} |",
        if call == Call::Publish { "publish" } else { "publish_topics" },
        published as f64 / elapsed,
        seconds * 1e6 / calls as f64,
        (cpu(std::process::id())? - node) / each,
        (cpu(redis)? - server) / each,
    );
    Ok(())
}

/// Calls until the time is over; how many calls that were, and their seconds.
async fn publish(
    call: Call,
    batch: usize,
    caller: usize,
    begun: Instant,
    writer: &RedisFanout,
) -> Result<(usize, f64)> {
    let body = Bytes::from(vec![b'x'; 128]);
    let name = |n: usize| format!("name{}", (caller * 17 + n) % 64);
    let publications = |call: usize| -> Vec<Publication> {
        (0..batch)
            .map(|n| {
                let partition = partition_of(&TENANT.into(), &name(call * batch + n));
                Publication::to_everyone(partition, body.clone())
            })
            .collect()
    };
    let topics = |call: usize| -> Vec<TopicPublication> {
        (0..batch)
            .map(|n| TopicPublication {
                tenant: TENANT.into(),
                topic: name(call * batch + n).into(),
                body: body.clone(),
            })
            .collect()
    };
    let (mut calls, began) = (0, Instant::now());
    while begun.elapsed() < MEASURE {
        match call {
            Call::Publish => writer.publish(&publications(calls)).await?,
            Call::PublishTopics => {
                let results = writer.publish_topics(&topics(calls)).await;
                ensure!(results.len() == batch && results.iter().all(Result::is_ok), "a publication failed");
            }
        }
        calls += 1;
    }
    Ok((calls, began.elapsed().as_secs_f64()))
}

/// Processor time of a process so far, seconds.
fn cpu(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let statistics = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += statistics.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

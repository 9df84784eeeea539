//! Cut connections, lost data, and a server that hangs.

use std::time::{Duration, Instant};

use anyhow::Result;
use starling_fanout::Error;
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use starling_testkit::{resp, wait};
use tokio::task::JoinSet;

use crate::setting::{Kind, Node, Setting};
use crate::witness::{LIMIT, marked, of_tenant};

/// Publications go from `a` to `b`, and topics to both.
pub async fn works(setting: &Setting, a: &Node, b: &Node) -> Result<()> {
    let batch: Vec<_> =
        (0..starling_fanout::PARTITIONS).map(|partition| setting.publication(partition, "works")).collect();
    a.fanout.publish(&batch).await?;
    b.inbox.wait_for(batch.len(), marked(&setting.mark)).await?;
    let topics: Vec<_> = (0..30).map(|n| setting.topic(&n.to_string(), "works")).collect();
    a.fanout.publish_topics(&topics).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    for node in [a, b] {
        node.inbox.wait_for(topics.len(), of_tenant(&setting.tenant())).await?;
    }
    Ok(())
}

/// Both nodes forget what came so far.
pub fn forget(nodes: [&Node; 2]) {
    for node in nodes {
        node.inbox.forget();
    }
}

async fn cut_connections_are_rebuilt(setting: &Setting, servers: &[&Redis]) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(setting, &a, &b).await?;
    for kind in ["pubsub", "normal"] {
        forget([&a, &b]);
        // All at once: a link that stands again before the last of them would end once more, after its gap.
        let mut kills = JoinSet::new();
        for address in servers.iter().map(|server| server.address()) {
            kills.spawn(async move { resp::call(address, &["CLIENT", "KILL", "TYPE", kind]).await });
        }
        while let Some(killed) = kills.join_next().await {
            killed??;
        }
        for node in [&a, &b] {
            node.inbox.wait_for_down().await?;
            node.inbox.wait_for_gap().await?;
        }
        // Nothing is lost from the gap on.
        forget([&a, &b]);
        works(setting, &a, &b).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_rebuilt_alone() -> Result<()> {
    let redis = Redis::start().await?;
    cut_connections_are_rebuilt(&Setting::at(Kind::Alone, redis.url()), &[&redis]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_rebuilt_on_a_cluster() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let servers: Vec<&Redis> = cluster.nodes().iter().collect();
    let setting = Setting::at(Kind::Cluster, cluster.url());
    cut_connections_are_rebuilt(&setting, &servers).await?;
    // One server alone is enough to be told of a gap.
    cut_connections_are_rebuilt(&setting, &servers[1..2]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_rebuilt_behind_sentinel() -> Result<()> {
    let pair = RedisSentinel::start().await?;
    cut_connections_are_rebuilt(&Setting::at(Kind::Sentinel, pair.url()), &[pair.master().await?]).await
}

async fn a_wiped_redis_does_no_harm(setting: &Setting, servers: &[&Redis]) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(setting, &a, &b).await?;
    let before = a.fanout.topic_history(&setting.tenant(), &"1".into(), None).await?.position;
    for server in servers {
        server.flushall().await?;
        server.cli(&["SCRIPT", "FLUSH"]).await?;
    }
    forget([&a, &b]);
    works(setting, &a, &b).await?;
    let after = b.fanout.topic_history(&setting.tenant(), &"1".into(), Some(&before)).await?;
    assert_eq!((after.recovered, after.position.offset), (false, 1));
    assert_ne!(after.position.epoch, before.epoch, "the numbers begin anew, and say so");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_redis_does_no_harm_alone() -> Result<()> {
    let redis = Redis::start().await?;
    a_wiped_redis_does_no_harm(&Setting::at(Kind::Alone, redis.url()), &[&redis]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_redis_does_no_harm_on_a_cluster() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let servers: Vec<&Redis> = cluster.nodes().iter().collect();
    a_wiped_redis_does_no_harm(&Setting::at(Kind::Cluster, cluster.url()), &servers).await
}

async fn a_hanging_redis_fails_calls_in_time(mut setting: Setting, server: &Redis) -> Result<()> {
    setting.command_timeout = Duration::from_secs(2);
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(&setting, &a, &b).await?;
    server.stop()?;
    // Until the link is given up, and thereafter.
    for _ in 0..3 {
        let begun = Instant::now();
        // Every partition, since a cluster's other servers go on.
        let batch: Vec<_> =
            (0..starling_fanout::PARTITIONS).map(|partition| setting.publication(partition, "x")).collect();
        let failed = a.fanout.publish(&batch).await;
        assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
        let topics: Vec<_> = (0..60).map(|n| setting.topic(&n.to_string(), "x")).collect();
        let results = a.fanout.publish_topics(&topics).await;
        assert!(results.iter().any(|result| matches!(result, Err(Error::Unavailable(_)))));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    for node in [&a, &b] {
        node.inbox.wait_for_down().await?;
        wait::until_true(LIMIT, "the link's fall", async || {
            Ok(node.fanout.link().is_some_and(|link| !link.connected && link.fault.is_some()))
        })
        .await?;
    }
    server.resume()?;
    for node in [&a, &b] {
        node.inbox.wait_for_gap().await?;
        node.inbox.forget();
    }
    works(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_fails_calls_in_time_alone() -> Result<()> {
    let redis = Redis::start().await?;
    a_hanging_redis_fails_calls_in_time(Setting::at(Kind::Alone, redis.url()), &redis).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_fails_calls_in_time_on_a_cluster() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    a_hanging_redis_fails_calls_in_time(Setting::at(Kind::Cluster, cluster.url()), &cluster.nodes()[1]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_silence_is_told_and_ends_in_a_gap() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let begun = Instant::now();
    redis.stop()?;
    for node in [&a, &b] {
        node.inbox.wait_for_down().await?;
    }
    let said = |node: &Node| node.fanout.link().and_then(|link| link.fault).unwrap_or_default();
    // Long before the links are given up for it, which is two seconds later; a machine that stands still may miss that.
    let silent = async || {
        let silent = [&a, &b].iter().all(|node| said(node) == "Redis has not answered for a second");
        Ok(silent || begun.elapsed() > Duration::from_secs(3))
    };
    wait::until_true(LIMIT, "the links to be silent, and not given up", silent).await?;
    redis.resume()?;
    for node in [&a, &b] {
        node.inbox.wait_for_gap().await?;
    }
    works(&setting, &a, &b).await
}

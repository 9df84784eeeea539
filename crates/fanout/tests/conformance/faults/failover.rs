//! Servers that die, are replaced, or give their slots away.

use anyhow::{Context, Result};
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use starling_testkit::wait;

use super::cuts::{forget, works};
use crate::setting::{Kind, Node, Setting};
use crate::witness::{LIMIT, marked};

/// Waits until both were told of a gap, and everything works.
async fn recovered(setting: &Setting, a: &Node, b: &Node) -> Result<()> {
    for node in [a, b] {
        node.inbox.wait_for_gap().await?;
    }
    // A node that reconnected to a server just before its end is told of another gap.
    let working = async || {
        forget([a, b]);
        tokio::time::timeout(std::time::Duration::from_secs(5), works(setting, a, b)).await?.map(Some)
    };
    wait::until(LIMIT, "publications after a failover", working).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again_and_numbers_anew() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(&setting, &a, &b).await?;
    let before = a.fanout.topic_history(&setting.tenant(), &"1".into(), None).await?.position;
    redis.restart().await?;
    recovered(&setting, &a, &b).await?;
    let after = a.fanout.topic_history(&setting.tenant(), &"1".into(), Some(&before)).await?;
    assert!(!after.recovered && after.position.epoch != before.epoch);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_with_old_data_does_not_give_numbers_twice() -> Result<()> {
    // It keeps a snapshot when told so, and loses what came after it.
    let redis = Redis::start_with(&["--dbfilename", "old.rdb"]).await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let a = setting.node("a").await?;
    let publish =
        async |text: &'static str| a.fanout.publish_topics(&[setting.topic("x", text)]).await.remove(0);
    publish("one").await?;
    redis.cli(&["SAVE"]).await?;
    let lost = publish("lost").await?;
    redis.restart().await?;
    a.inbox.wait_for_gap().await?;
    assert!(!redis.cli(&["KEYS", "*"]).await?.texts().is_empty(), "the snapshot is there");
    let next = publish("two").await?;
    assert_ne!(next.epoch, lost.epoch);
    let history = a.fanout.topic_history(&setting.tenant(), &"x".into(), Some(&lost)).await?;
    assert!(!history.recovered);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_master_behind_sentinel_is_found() -> Result<()> {
    let pair = RedisSentinel::start().await?;
    let setting = Setting::at(Kind::Sentinel, pair.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(&setting, &a, &b).await?;
    let before = a.fanout.topic_history(&setting.tenant(), &"1".into(), None).await?.position;
    forget([&a, &b]);
    pair.failover().await?;
    recovered(&setting, &a, &b).await?;
    let after = b.fanout.topic_history(&setting.tenant(), &"1".into(), Some(&before)).await?;
    assert!(!after.recovered, "a replica may have lacked the newest");

    forget([&a, &b]);
    pair.kill_master().await?;
    recovered(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_master_in_a_cluster_is_found() -> Result<()> {
    let cluster = RedisCluster::start_with_replicas().await?;
    let setting = Setting::at(Kind::Cluster, cluster.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    works(&setting, &a, &b).await?;
    forget([&a, &b]);
    cluster.failover().await?;
    recovered(&setting, &a, &b).await?;

    forget([&a, &b]);
    cluster.nodes()[1].kill().await?;
    recovered(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed() -> Result<()> {
    const PARTITION: u16 = 3;
    let cluster = RedisCluster::start().await?;
    let setting = Setting::at(Kind::Cluster, cluster.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let servers = cluster.nodes();
    let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", &format!("{{{PARTITION}}}")]).await?.text();
    let owner = 3 * slot.parse::<usize>()? / 16384;
    let next = servers.get((owner + 1) % 3).context("three servers")?;
    let id = next.cli(&["CLUSTER", "MYID"]).await?.text();
    // The slot has no keys yet, so it changes hands at once. Its subscribers are sent away without a closed connection.
    for server in [next, &servers[owner], &servers[(owner + 2) % 3]] {
        server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await?;
    }
    for node in [&a, &b] {
        node.inbox.wait_for_gap().await?;
        node.inbox.forget();
    }
    a.fanout.publish(&[setting.publication(PARTITION, "after")]).await?;
    b.inbox.wait_for(1, marked(&setting.mark)).await?;
    recovered_partitions(&setting, &a, &b).await
}

async fn recovered_partitions(setting: &Setting, a: &Node, b: &Node) -> Result<()> {
    forget([a, b]);
    works(setting, a, b).await
}

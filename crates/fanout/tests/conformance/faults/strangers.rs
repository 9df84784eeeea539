//! Messages that no node of this version has sent.

use anyhow::Result;
use starling_fanout::Delivery;
use starling_testkit::redis::{Redis, RedisCluster};

use super::cuts::works;
use crate::setting::{Kind, Setting};
use crate::witness::direct;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_a_gap() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    for text in ["", "message", "\u{1}\u{1}"] {
        redis.cli(&["PUBLISH", "starling:v1:lanes", text]).await?;
    }
    let gaps = |delivery: &Delivery| match delivery {
        Delivery::Gap { lane } => Some(*lane),
        _ => None,
    };
    for node in [&a, &b] {
        assert!(node.inbox.wait_for(3, gaps).await?.iter().all(Option::is_none));
    }
    // A node's own channel carries nothing that could be missed.
    redis.cli(&["PUBLISH", &format!("starling:v1:node:{}", a.name), "text"]).await?;
    b.fanout.publish_to(&a.name, "after".into()).await?;
    assert_eq!(a.inbox.wait_for(1, direct).await?, ["after"]);
    // A machine that stands still for a second makes a link silent, whose end is a gap, too.
    let silences = a.inbox.picked(|delivery| (*delivery == Delivery::Down).then_some(())).len();
    assert!(a.inbox.picked(gaps).len() <= 3 + silences);
    works(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_on_a_cluster_is_a_gap_of_its_lane() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let setting = Setting::at(Kind::Cluster, cluster.url());
    let a = setting.node("a").await?;
    // Only one of the three takes it, the others name that one.
    let mut taken = 0;
    for server in cluster.nodes() {
        taken += usize::from(server.cli(&["SPUBLISH", "starling:v1:lane:{7}", "text"]).await.is_ok());
    }
    assert_eq!(taken, 1);
    let is_gap = |delivery: &Delivery| (*delivery == Delivery::Gap { lane: Some(7) }).then_some(());
    a.inbox.wait_for(1, is_gap).await.map(drop)
}

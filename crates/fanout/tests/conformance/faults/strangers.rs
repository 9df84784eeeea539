//! Messages that no node of this version has sent.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::redis::{RedisConfig, RedisFanout};
use starling_fanout::{Delivery, Fanout, Publication, TopicPublication};
use starling_testkit::redis::{Redis, RedisCluster};

use super::cuts::works;
use crate::setting::{Kind, Setting};
use crate::witness::{Witness, direct};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_a_gap() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    for text in ["", "message", "\u{1}\u{1}"] {
        redis.cli(&["PUBLISH", "starling:v1:lanes", text]).await?;
    }
    let gaps = |delivery: &Delivery| match delivery {
        Delivery::Gap { partition } => Some(*partition),
        _ => None,
    };
    for node in [&a, &b] {
        assert!(node.inbox.wait_for(3, gaps).await?.iter().all(Option::is_none));
    }
    // Publications come on a node's own channel, too.
    redis.cli(&["PUBLISH", &format!("starling:v1:node:{}", a.name), "text"]).await?;
    b.fanout.publish_to(&a.name, "after".into()).await?;
    assert_eq!(a.inbox.wait_for(1, direct).await?, ["after"]);
    assert!(a.inbox.wait_for(4, gaps).await?.iter().all(Option::is_none));
    // A machine that stands still for a second makes a link silent, whose end is a gap, too.
    let silences = a.inbox.picked(|delivery| (*delivery == Delivery::Down).then_some(())).len();
    assert!(a.inbox.picked(gaps).len() <= 4 + silences);
    works(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_on_a_cluster_is_a_gap_of_its_partition() -> Result<()> {
    let cluster = RedisCluster::start().await?;
    let setting = Setting::at(Kind::Cluster, cluster.url());
    let a = setting.node("a").await?;
    // Only one of the three takes it, the others name that one.
    let mut taken = 0;
    for server in cluster.nodes() {
        taken += usize::from(server.cli(&["SPUBLISH", "starling:v1:lane:{7}", "text"]).await.is_ok());
    }
    assert_eq!(taken, 1);
    let is_gap = |delivery: &Delivery| (*delivery == Delivery::Gap { partition: Some(7) }).then_some(());
    a.inbox.wait_for(1, is_gap).await.map(drop)
}

/// Redis' pub/sub knows no databases: what is published in one is heard in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_that_share_a_redis_hear_nothing_of_each_other() -> Result<()> {
    let redis = Redis::start().await?;
    let mut nodes = Vec::new();
    // Of the same name everywhere.
    for (place, prefix) in [("", "starling:v1"), ("/1", "starling:v1"), ("", "blue:v1"), ("/1", "blue:v1")] {
        let config = RedisConfig {
            prefix: prefix.into(),
            ..RedisConfig::new(format!("{}{place}", redis.url()).parse()?, "node")
        };
        let (fanout, inbox) = (RedisFanout::connect(config)?, Arc::new(Witness::default()));
        fanout.start(inbox.clone()).await?;
        nodes.push((fanout, inbox));
    }
    let body = |number: usize| Bytes::from(format!("by {number}"));
    for (number, (fanout, _)) in nodes.iter().enumerate() {
        fanout.publish(&[Publication::to_everyone(3, body(number))]).await?;
        fanout.publish_to("node", body(number)).await?;
        let topic = TopicPublication { tenant: "t".into(), topic: "news".into(), body: body(number) };
        for result in fanout.publish_topics(&[topic]).await {
            // Each has a numbering of its own.
            assert_eq!(result?.offset, 1);
        }
    }
    // One more of each, behind which nothing of the others' can come any more.
    for (number, (fanout, inbox)) in nodes.iter().enumerate() {
        fanout.publish_to("node", "last".into()).await?;
        let heard = inbox.wait_for(2, direct).await?;
        assert_eq!(heard, [format!("by {number}"), "last".to_owned()]);
    }
    Ok(())
}

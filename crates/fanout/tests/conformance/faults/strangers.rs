//! Messages that no node of this version has sent.

use anyhow::Result;
use starling_fanout::Delivery;
use starling_testkit::redis::Redis;

use super::cuts::works;
use crate::setting::{Kind, Setting};
use crate::witness::direct;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_a_gap_of_its_lane() -> Result<()> {
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    for text in ["", "message", "\u{1}\u{1}"] {
        redis.cli(&["PUBLISH", "starling:v1:lane:{7}", text]).await?;
    }
    let gaps = |delivery: &Delivery| match delivery {
        Delivery::Gap { lane } => Some(*lane),
        _ => None,
    };
    for node in [&a, &b] {
        assert_eq!(node.inbox.wait_for(3, gaps).await?, [Some(7); 3]);
    }
    // A node's own channel carries nothing that could be missed.
    redis.cli(&["PUBLISH", &format!("starling:v1:node:{}", a.name), "text"]).await?;
    b.fanout.publish_to(&a.name, "after".into()).await?;
    assert_eq!(a.inbox.wait_for(1, direct).await?, ["after"]);
    assert_eq!(a.inbox.picked(gaps).len(), 3);
    works(&setting, &a, &b).await
}

//! The link to the broker, and what is left there.

use anyhow::Result;
use starling_fanout::LinkStatus;
use starling_testkit::wait;

use crate::setting::{Kind, Setting};
use crate::witness::{LIMIT, marked};

pub async fn a_forced_reconnect_ends_in_a_gap(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    a.fanout.reconnect().await;
    a.inbox.wait_for_gap().await?;
    // From the gap on nothing is missed.
    b.fanout.publish(&[setting.publication(1, "after")]).await?;
    a.inbox.wait_for(1, marked(&setting.mark)).await?;
    a.fanout.publish(&[setting.publication(1, "back")]).await?;
    b.inbox.wait_for(1, marked(&setting.mark)).await?;
    Ok(())
}

pub async fn the_link_is_told(setting: &Setting) -> Result<()> {
    let a = setting.unstarted("a")?;
    if setting.kind == Kind::Memory {
        assert_eq!(a.fanout.link(), None);
        return Ok(());
    }
    assert_eq!(a.fanout.link().map(|link| link.connected), Some(false));
    assert!(a.fanout.publish(&[setting.publication(1, "too early")]).await.is_err());
    a.fanout.start(a.inbox.clone()).await?;
    let stands = LinkStatus { connected: true, subscribed: true, fault: None };
    wait::until_true(LIMIT, "the link", async || Ok(a.fanout.link().as_ref() == Some(&stands))).await
}

pub async fn every_key_has_a_lifetime(setting: &Setting) -> Result<()> {
    let a = setting.node("a").await?;
    let batch: Vec<_> = (0..40).map(|n| setting.topic(&n.to_string(), "x")).collect();
    a.fanout.publish_topics(&batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    a.fanout.topic_history(&setting.tenant(), &"never published".into(), None).await?;
    let mut hashes = 0;
    for server in setting.servers() {
        let is_master = server.cli(&["ROLE"]).await?.texts().first().is_some_and(|role| role == "master");
        for key in server.cli(&["KEYS", "*"]).await?.texts() {
            // Gone meanwhile is fine, without an end is not.
            let seconds = server.cli(&["TTL", &key]).await?.integer().unwrap_or(-1);
            assert!(key.starts_with("starling:v1:"), "{key}");
            let lifetime = if key.contains(":publications:") { 180 } else { 2 * 86_400 };
            assert!(seconds == -2 || (0..=lifetime).contains(&seconds), "{key}: {seconds}");
            // A replica has the same keys.
            hashes += usize::from(is_master && (key.contains(":numbers:") || key.contains(":publications:")));
        }
    }
    // Other tests use them, too.
    let expected = if setting.kind == Kind::Memory { 0..=0 } else { 2..=usize::MAX };
    assert!(expected.contains(&hashes), "{hashes}");
    Ok(())
}

//! A Redis that has reached `maxmemory` and evicts nothing, and keys that hold something else than they should.

use std::time::Duration;

use starling_model::ConversationId;
use starling_session_store::redis::RedisConfig;
use starling_session_store::{Attached, ConversationKey, Dropped, Error, PresenceChange, SessionStore};
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::{PATIENCE, fresh, node, store, ten_a_minute, with};

fn key(conversation: &str) -> ConversationKey {
    ConversationKey { tenant: "acme".into(), conversation: conversation.into(), id: ConversationId::new(7) }
}

fn here(conversation: &str, devices: u32) -> PresenceChange {
    PresenceChange { conversation: key(conversation), user: "alice".into(), devices }
}

#[tokio::test]
async fn a_full_redis_still_shows_who_lives_and_who_is_where() -> anyhow::Result<()> {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]).await?;
    let config = RedisConfig { lease: Duration::from_secs(2), ..RedisConfig::new(redis.url().parse()?) };
    let (one, other) = (with(config.clone()).await, with(config).await);
    one.beat(&node("n1")).await?;
    other.beat(&node("n2")).await?;
    one.attach(&fresh("s1")).await?;
    one.set_presence("n1", &[here("c", 1)]).await?;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;

    // Said by the look at its health, too, although it answers.
    let taken = one.take(&"acme".into(), &"alice".into(), ten_a_minute()).await;
    assert!(matches!(&taken, Err(Error::Unavailable(why)) if why.contains("OOM")), "{taken:?}");
    one.attach(&fresh("s2")).await?;
    assert!(matches!(other.ping().await, Some(Err(Error::Unavailable(_)))));
    // What it holds is read, and both live on for longer than a lease.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(!one.beat(&node("n1")).await?.lost);
        other.beat(&node("n2")).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(other.nodes().await?.len(), 2);
    assert_eq!(other.sessions(&"acme".into(), None, None, 10).await?.sessions.len(), 2);
    assert_eq!(other.presence(&[key("c")]).await?[0].len(), 1);
    one.set_presence("n1", &[here("c", 0), here("d", 1)]).await?;
    assert_eq!(other.presence(&[key("c"), key("d")]).await?.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1]);

    // A node that is killed now is noticed.
    drop(one);
    let alone = async || {
        let beat = other.beat(&node("n2")).await?;
        Ok(beat.living.len() == 1 && other.presence(&[key("d")]).await?[0].is_empty())
    };
    wait::until_true(PATIENCE, "the lease to run out", alone).await?;

    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    let well = async || Ok(other.ping().await.is_some_and(|ping| ping.is_ok()));
    wait::until_true(PATIENCE, "writes", well).await?;
    other.attach(&fresh("s3")).await?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_somebody_elses_spoils_no_other() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = store(redis.url()).await;
    store.beat(&node("n1")).await?;
    redis.cli(&["SET", "starling:v1:presence:{acme:bad}/7", "a string"]).await?;
    store.set_presence("n1", &[here("a", 1), here("bad", 1), here("z", 2)]).await?;
    let present = store.presence(&[key("a"), key("bad"), key("z")]).await?;
    assert_eq!(
        present.iter().map(|of| of.iter().map(|entry| entry.devices).sum::<u32>()).collect::<Vec<_>>(),
        [1, 0, 2]
    );
    store.keep_presence(&[key("a"), key("bad")]).await?;

    let Attached::New { stamp } = store.attach(&fresh("s1")).await? else { anyhow::bail!("s1 is not new") };
    redis.cli(&["SET", "starling:v1:session:{bad}", "a string"]).await?;
    let dropped = ["bad", "s1"].map(|session| Dropped { session: session.into(), stamp });
    store.detach("n1", &dropped, crate::now_ms()).await?;
    let left = redis.cli(&["HGET", "starling:v1:session:{s1}", "dropped_at"]).await?;
    assert!(!left.text().is_empty(), "s1 was not detached");
    Ok(())
}

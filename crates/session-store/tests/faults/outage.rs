use std::time::{Duration, Instant};

use starling_session_store::redis::RedisConfig;
use starling_session_store::{Attached, Dropped, Error, ResumeAttach, SessionStore};
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use starling_testkit::wait;

use crate::{PATIENCE, fresh, node, now_ms, store, ten_a_minute, with};

const TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add to a time limit. An attach that waited for its turn would take four times as long.
const SLACK: Duration = Duration::from_secs(4);

async fn waits_until_it_answers(store: &dyn SessionStore) -> anyhow::Result<()> {
    wait::until_true(PATIENCE, "an answer", async || Ok(store.beat(&node("n1")).await.is_ok())).await
}

/// Calls everything at once; all have to fail, in time.
async fn nothing_answers_in_time(store: &dyn SessionStore) {
    let rate = ten_a_minute();
    let begun = Instant::now();
    let record = node("n1");
    let attach = fresh("late");
    let dropped = [Dropped { session: "s1".into(), stamp: 1 }];
    let (tenant, user) = ("acme".into(), "alice".into());
    let (beat, attached, detached, page, taken, ping) = tokio::join!(
        store.beat(&record),
        store.attach(&attach),
        store.detach("n1", &dropped, now_ms()),
        store.sessions(&tenant, None, None, 10),
        store.take(&tenant, &user, rate),
        store.ping(),
    );
    assert!(begun.elapsed() < TIMEOUT + SLACK, "{:?}", begun.elapsed());
    assert!(matches!(beat, Err(Error::Unavailable(_))), "{beat:?}");
    assert!(matches!(attached, Err(Error::Unavailable(_))), "{attached:?}");
    assert!(matches!(detached, Err(Error::Unavailable(_))), "{detached:?}");
    assert!(matches!(page, Err(Error::Unavailable(_))), "{page:?}");
    assert!(matches!(taken, Err(Error::Unavailable(_))), "{taken:?}");
    assert!(matches!(ping, Some(Err(Error::Unavailable(_)))), "{ping:?}");
}

#[tokio::test]
async fn a_silent_redis_fails_calls_in_time_then_at_once_and_is_back_by_itself() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = store(redis.url()).await;
    store.attach(&fresh("s1")).await?;
    redis.stop()?;
    nothing_answers_in_time(&*store).await;
    // From now on nobody waits for it.
    let rate = ten_a_minute();
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(store.take(&"acme".into(), &"alice".into(), rate).await.is_err());
    }
    assert!(begun.elapsed() < 10 * TIMEOUT, "a hundred calls took {:?}", begun.elapsed());
    redis.resume()?;
    waits_until_it_answers(&*store).await?;
    let resume = Some(ResumeAttach { ticket_issued_at_ms: now_ms() });
    let attached = store.attach(&starling_session_store::Attach { resume, ..fresh("s1") }).await?;
    assert!(matches!(attached, Attached::Resumed { .. }), "{attached:?}");
    Ok(())
}

#[tokio::test]
async fn a_long_silence_ends_by_itself_too() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let config =
        RedisConfig { command_timeout: Duration::from_millis(300), ..RedisConfig::new(redis.url().parse()?) };
    let store = with(config).await;
    waits_until_it_answers(&*store).await?;
    redis.stop()?;
    let stopped = Instant::now();
    // Long enough for connections to be made anew, in vain, several times.
    while stopped.elapsed() < Duration::from_secs(4) {
        assert!(store.beat(&node("n1")).await.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    redis.resume()?;
    waits_until_it_answers(&*store).await
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_and_knows_nothing() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = store(redis.url()).await;
    assert!(store.beat(&node("n1")).await?.lost);
    let issued_at_ms = now_ms() - 1_000;
    store.attach(&fresh("s1")).await?;
    redis.kill().await?;
    nothing_answers_in_time(&*store).await;
    redis.restart().await?;
    wait::until_true(PATIENCE, "an answer", async || Ok(store.ping().await.is_some_and(|ping| ping.is_ok())))
        .await?;
    assert!(store.beat(&node("n1")).await?.lost);
    let resume = Some(ResumeAttach { ticket_issued_at_ms: issued_at_ms });
    let attach = starling_session_store::Attach { resume, ..fresh("s1") };
    let attached = store.attach(&attach).await?;
    assert!(matches!(attached, Attached::Rebuilt { .. }), "{attached:?}");
    Ok(())
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = store(redis.url()).await;
    for _ in 0..3 {
        redis.cli(&["SCRIPT", "FLUSH"]).await?;
        let Attached::New { stamp } = store.attach(&fresh("s1")).await? else {
            anyhow::bail!("the session is not new")
        };
        redis.cli(&["SCRIPT", "FLUSH"]).await?;
        store.detach("n1", &[Dropped { session: "s1".into(), stamp }], now_ms()).await?;
        redis.cli(&["SCRIPT", "FLUSH"]).await?;
        store.take(&"acme".into(), &"alice".into(), ten_a_minute()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_master_is_replaced_by_sentinel() -> anyhow::Result<()> {
    let sentinel = RedisSentinel::start().await?;
    let store = store(sentinel.url()).await;
    waits_until_it_answers(&*store).await?;
    sentinel.kill_master().await?;
    waits_until_it_answers(&*store).await?;
    store.attach(&fresh("s1")).await?;
    sentinel.revive().await?;
    sentinel.failover().await?;
    wait::until_true(PATIENCE, "a write after the second change of masters", async || {
        Ok(store.attach(&fresh("s2")).await.is_ok())
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_moves_its_slots_is_followed() -> anyhow::Result<()> {
    let cluster = RedisCluster::start_with_replicas().await?;
    let store = store(cluster.url()).await;
    waits_until_it_answers(&*store).await?;
    cluster.failover().await?;
    wait::until_true(PATIENCE, "sessions on every master", async || {
        for i in 0..20 {
            if store.attach(&fresh(&format!("s{i}"))).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    assert_eq!(store.sessions(&"acme".into(), None, None, 100).await?.sessions.len(), 20);
    Ok(())
}

//! A Redis that isn't there at the start, or doesn't let one in.

use std::time::{Duration, Instant};

use anyhow::Result;
use starling_fanout::Error;
use starling_fanout::redis::{RedisConfig, RedisFanout};
use starling_testkit::redis::Redis;
use starling_testkit::wait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::cuts::works;
use crate::setting::{Kind, Setting};
use crate::witness::LIMIT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_redis_goes_on_in_the_background() -> Result<()> {
    let redis = Redis::start().await?;
    redis.kill().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let begun = Instant::now();
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    a.inbox.wait_for_down().await?;
    let failed = a.fanout.publish(&[setting.publication(1, "x")]).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    assert!(a.fanout.topic_history(&"t".into(), &"x".into(), None).await.is_err());
    assert!(a.fanout.probe(1).await.is_err());
    redis.restart().await?;
    for node in [&a, &b] {
        node.inbox.wait_for_gap().await?;
    }
    works(&setting, &a, &b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_one_in_and_is_never_told() -> Result<()> {
    let redis = Redis::start().await?;
    redis.cli(&["ACL", "SETUSER", "me", "on", ">verysecret", "~starling:*", "&starling:*", "+@all"]).await?;
    let right = Setting::at(Kind::Alone, redis.url().replace("//", "//me:verysecret@"));
    let (a, b) = (right.node("a").await?, right.node("b").await?);
    works(&right, &a, &b).await?;

    let wrong = Setting::at(Kind::Alone, redis.url().replace("//", "//me:otherwise@"));
    let refused = RedisFanout::connect(wrong.config("c"))?;
    let Err(error @ Error::Refused(_)) = refused.check().await else { panic!("let in") };
    assert!(!error.to_string().contains("otherwise"), "{error}");
    let c = wrong.node("c").await?;
    c.inbox.wait_for_down().await?;
    let fault = async || Ok(c.fanout.link().and_then(|link| link.fault));
    let fault = wait::until(LIMIT, "a fault", fault).await?;
    assert!(!fault.contains("otherwise"), "{fault}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_denied_is_a_fault() -> Result<()> {
    let redis = Redis::start().await?;
    redis.cli(&["ACL", "SETUSER", "me", "on", "nopass", "~*", "+@all", "resetchannels", "&other"]).await?;
    let mut setting = Setting::at(Kind::Alone, redis.url().replace("//", "//me:any@"));
    setting.command_timeout = Duration::from_secs(1);
    let a = setting.node("a").await?;
    a.inbox.wait_for_down().await?;
    assert_eq!(a.fanout.link().map(|link| link.subscribed), Some(false));
    let refused = a.fanout.link().and_then(|link| link.fault).is_some_and(|fault| fault.contains("NOPERM"));
    assert!(refused, "{:?}", a.fanout.link());
    // As soon as it is allowed, all is well.
    redis.cli(&["ACL", "SETUSER", "me", "allchannels"]).await?;
    a.inbox.wait_for_gap().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_is_checked() -> Result<()> {
    let redis = Redis::start().await?;
    RedisFanout::connect(RedisConfig::new(redis.url().parse()?, "a"))?.check().await?;
    redis.kill().await?;
    let away = RedisFanout::connect(RedisConfig::new(redis.url().parse()?, "a"))?.check().await;
    assert!(matches!(away, Err(Error::Unavailable(_))), "{away:?}");

    let old = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", old.local_addr()?);
    tokio::spawn(serve_old_version(old));
    let refused = RedisFanout::connect(RedisConfig::new(url.parse()?, "a"))?.check().await;
    let Err(Error::Unsupported(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("6.2.14") && text.contains("redis_url"), "{text}");
    Ok(())
}

/// Answers what a client asks when it connects, as Redis 6.2 does.
async fn serve_old_version(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                let answer = match line.trim() {
                    "PING" => Some("+PONG\r\n".to_owned()),
                    "INFO" => {
                        let info = "# Server\r\nredis_version:6.2.14\r\n";
                        Some(format!("${}\r\n{info}\r\n", info.len()))
                    }
                    "CLIENT" => Some(":1\r\n".to_owned()),
                    _ => None,
                };
                if let Some(answer) = answer
                    && stream.write_all(answer.as_bytes()).await.is_err()
                {
                    return;
                }
                line.clear();
            }
        });
    }
}

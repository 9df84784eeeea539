use std::time::{Duration, Instant};

use starling_session_store::redis::RedisConfig;
use starling_session_store::{Error, SessionStore};
use starling_testkit::redis::Redis;
use starling_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{PATIENCE, fresh, node, store};

#[tokio::test]
async fn redis_may_come_later() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    redis.kill().await?;
    let begun = Instant::now();
    let store = store(redis.url()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "connecting took {:?}", begun.elapsed());
    assert!(matches!(store.check().await, Err(Error::Unavailable(_))));
    assert!(matches!(store.attach(&fresh("s1")).await, Err(Error::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(20), "two calls took {:?}", begun.elapsed());
    redis.restart().await?;
    wait::until_true(PATIENCE, "an answer", async || Ok(store.check().await.is_ok())).await?;
    assert!(store.beat(&node("n1")).await?.lost);
    assert!(store.ping().await.is_some_and(|ping| ping.is_ok()));
    Ok(())
}

#[tokio::test]
async fn a_first_call_waits_for_the_first_connection() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = store(redis.url()).await;
    store.attach(&fresh("s1")).await?;
    Ok(())
}

#[test]
fn a_configuration_shows_no_password() {
    let address = "redis://user:hush@redis.example".parse().expect("an address");
    let config = format!("{:?}", RedisConfig::new(address));
    assert!(!config.contains("hush"), "{config}");
}

#[tokio::test]
async fn a_redis_that_refuses_the_node_says_why() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let with = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    // One that may not ask for the version, one that may do nothing, one that lacks a single command.
    for (user, rights) in
        [("well", "+@all"), ("shy", "-hello -info"), ("nobody", "-@all"), ("limited", "-hset")]
    {
        let mut words = vec!["ACL", "SETUSER", user, "on", ">hush", "~*", "&*", "+@all"];
        words.extend(rights.split(' '));
        redis.cli(&words).await?;
    }
    let well = store(with("well:hush")).await;
    well.check().await?;
    store(with("shy:hush")).await.check().await?;
    // Redis 7.0 does not name the command that a script may not run.
    let limited = ["'hset'", "can't run this command"];
    for (user, reasons) in
        [("well:hush-hush", &["WRONGPASS"][..]), ("nobody:hush", &["NOPERM"]), ("limited:hush", &limited)]
    {
        let store = store(with(user)).await;
        let mut error = store.check().await.err();
        if error.is_none() {
            error = store.beat(&node("n1")).await.err();
        }
        let error = error.ok_or_else(|| anyhow::anyhow!("{user} was taken"))?;
        assert!(matches!(error, Error::Refused(_)), "{user}: {error:?}");
        let text = error.to_string();
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{user}: {text}");
        // The user's name is all that is told of the address.
        assert!(!text.contains("hush"), "{user}: {text}");
    }

    // While it runs, the password is changed, and the connections are cut.
    redis.cli(&["ACL", "SETUSER", "well", "resetpass", ">another"]).await?;
    redis.cli(&["CLIENT", "KILL", "USER", "well"]).await?;
    let refused = async || {
        Ok(matches!(well.ping().await, Some(Err(Error::Refused(why))) if why.starts_with("WRONGPASS")))
    };
    wait::until_true(PATIENCE, "a refusal", refused).await?;
    redis.cli(&["ACL", "SETUSER", "well", ">hush"]).await?;
    let answers = async || Ok(well.ping().await.is_some_and(|ping| ping.is_ok()));
    wait::until_true(PATIENCE, "an answer", answers).await?;

    redis.cli(&["CONFIG", "SET", "requirepass", "hush"]).await?;
    let none = store(redis.url()).await.check().await.expect_err("a password is needed");
    assert!(matches!(&none, Error::Refused(why) if why.starts_with("NOAUTH")), "{none:?}");
    Ok(())
}

#[tokio::test]
async fn an_old_redis_is_named() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", listener.local_addr()?);
    let server = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                while let Ok(1..) = socket.read(&mut read).await {
                    let asked = String::from_utf8_lossy(&read).to_uppercase();
                    let answer = if asked.contains("INFO") {
                        let text = "# Server\r\nredis_version:6.2.14\r\n";
                        format!("${}\r\n{text}\r\n", text.len())
                    } else {
                        "+OK\r\n".to_owned()
                    };
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    read.fill(0);
                }
            });
        }
    });
    let error = store(url).await.check().await.expect_err("6.2 is too old");
    server.abort();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert!(error.to_string().contains("6.2.14") && error.to_string().contains("7 or later"), "{error}");
    Ok(())
}

//! Redis servers, each with something wrong.

use std::time::Duration;

use starling_testkit::Folder;
use starling_testkit::node::NodeBuilder;
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;
use tokio::net::TcpListener;

use super::{doctor, examined};
use crate::SOON;
use crate::redis::be_old;

/// The doctor of a node with this Redis and a good database.
async fn with(redis_url: &str, database: &str) -> NodeBuilder {
    let url = Postgres::shared().await.unwrap().create_database(&format!("doctor_{database}")).await.unwrap();
    doctor().redis(redis_url).database(&url)
}

#[tokio::test]
async fn a_good_redis_has_no_problem() {
    let redis = Redis::start().await.unwrap();
    let report = examined(with(&redis.url(), "redis_good").await).await;
    report.assert_well();
    for (subject, words) in [
        ("reachable", "Redis "),
        ("latency", "there and back"),
        ("memory", "without a limit"),
        ("persistence", "none is needed"),
        ("scripts", "run"),
        ("pub/sub", "came back"),
    ] {
        report.assert("redis", subject, "good", words);
    }
    report.assert("clock", "to Redis", "good", "apart");
}

#[tokio::test]
async fn a_redis_that_can_not_be_reached_is_too_old_or_refuses_is_a_problem() {
    let gone = Redis::start().await.unwrap();
    gone.kill().await.unwrap();
    examined(with(&gone.url(), "redis_gone").await).await.assert(
        "redis",
        "redis_url",
        "problem",
        "redis-cli",
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(be_old(socket));
        }
    });
    examined(with(&url, "redis_old").await).await.assert("redis", "version", "problem", "6.2.14");
    server.abort();

    let redis = Redis::start().await.unwrap();
    redis.cli(&["CONFIG", "SET", "requirepass", "right"]).await.unwrap();
    let url = redis.url().replace("redis://", "redis://:hush@");
    let report = examined(with(&url, "redis_password").await).await;
    report.assert("redis", "rights", "problem", "WRONGPASS");
    assert!(!report.text.contains("hush"), "{}", report.text);
}

#[tokio::test]
async fn a_user_without_the_right_to_a_script_or_a_channel_is_found() {
    let redis = Redis::start().await.unwrap();
    for (user, rights, subject) in [
        ("mute", &["~*", "resetchannels", "+@all"][..], "pub/sub"),
        ("unscripted", &["~*", "&*", "+@all", "-@scripting"][..], "scripts"),
        ("keyless", &["~other:*", "&*", "+@all"][..], "scripts"),
    ] {
        let acl = [&["ACL", "SETUSER", user, "on", ">hush"][..], rights].concat();
        redis.cli(&acl).await.unwrap();
        let url = redis.url().replace("redis://", &format!("redis://{user}:hush@"));
        let report = examined(with(&url, &format!("redis_{user}")).await).await;
        report.assert("redis", subject, "problem", "ACL LOG");
        assert!(!report.text.contains("hush"), "{}", report.text);
    }
}

#[tokio::test]
async fn a_redis_that_evicts_sessions_or_is_full_is_found() {
    let lossy = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&lossy).await.unwrap();
    let report = examined(with(&redis.url(), "redis_lossy").await).await;
    report.assert_well().assert("redis", "memory", "warning", "noeviction");

    let redis = Redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await.unwrap();
    let part = "x".repeat(64 << 10);
    let mut number = 0;
    let full = async || {
        number += 1;
        // It refuses when it is full.
        Ok(redis.cli(&["SET", &format!("filler:{number}"), &part]).await.is_err())
    };
    until_true(SOON, "a full Redis", full).await.unwrap();
    examined(with(&redis.url(), "redis_full").await).await.assert(
        "redis",
        "memory",
        "problem",
        "raise maxmemory",
    );
}

#[tokio::test]
async fn a_redis_that_can_not_save_is_found() {
    let folder = Folder::new("redis-save").unwrap();
    let place = folder.path().join("gone");
    std::fs::create_dir(&place).unwrap();
    let place = place.display().to_string();
    let redis = Redis::start_with(&["--dir", &place, "--save", "3600 1"]).await.unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    redis.cli(&["BGSAVE"]).await.unwrap();
    let failed = async || {
        let info = redis.cli(&["INFO", "persistence"]).await?.text();
        Ok(info.contains("rdb_last_bgsave_status:err"))
    };
    until_true(SOON, "the save to fail", failed).await.unwrap();
    examined(with(&redis.url(), "redis_save").await).await.assert(
        "redis",
        "persistence",
        "problem",
        "could not save",
    );
}

#[tokio::test]
async fn a_redis_that_is_far_away_is_found() {
    let redis = Redis::start().await.unwrap();
    let proxy = Link::to(redis.address()).await.unwrap();
    proxy.delay(Duration::from_millis(15));
    let report = examined(with(&proxy.through(&redis.url()), "redis_far").await).await;
    report.assert("redis", "latency", "warning", "one zone");
}

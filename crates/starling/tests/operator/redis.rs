//! Starts without Redis, and with a Redis that is too old.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use starling_testkit::wait::{until, until_true};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{SOON, finished};

async fn database(name: &str) -> String {
    Postgres::shared().await.unwrap().create_database(name).await.unwrap()
}

#[tokio::test]
async fn a_node_starts_without_redis_serves_from_the_log_and_is_whole_when_redis_comes() {
    let redis = Redis::start().await.unwrap();
    redis.kill().await.unwrap();
    let builder = Node::builder().redis(&redis.url()).database(&database("without_redis").await);
    let node = builder.without_waiting().start().await.unwrap();
    let readiness = until(SOON, "an answer", async || {
        anyhow::ensure!(node.is_running(), "the node has ended: {}", node.log());
        Ok(Some(node.get("/ready").await?))
    });
    let readiness = readiness.await.unwrap();
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    assert_eq!(readiness.json().unwrap(), json!({"ready": false, "reasons": ["deaf"]}));
    assert!(readiness.header("retry-after").is_some());
    assert!(node.log().contains("redis_url"), "{}", node.log());
    let health = node.get("/health").await.unwrap();
    assert_eq!(health.status, 200);
    let health: Value = health.json().unwrap();
    assert_eq!((&health["status"], &health["database"]["status"]), (&json!("unfit"), &json!("up")));

    // The node waits until it knows that no other node does better, and then serves from the log.
    let shows = async |expected: &Value| Ok(node.get("/ready").await?.json()? == *expected);
    let degraded = json!({"ready": true, "reasons": ["degraded"]});
    until_true(SOON, "the node to serve without Redis", async || shows(&degraded).await).await.unwrap();
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.command("create", json!({"conversation": "c"})).await.unwrap();
    ada.command("send", json!({"conversation": "c", "key": "k", "content": "x"})).await.unwrap();

    redis.restart().await.unwrap();
    let whole = json!({"ready": true, "reasons": []});
    until_true(SOON, "the node to be whole", async || shows(&whole).await).await.unwrap();
    let ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    assert_eq!(ada.welcome()["user"], "ada");
}

/// Nobody writes anything: the node finds out by itself.
#[tokio::test]
async fn a_node_says_that_redis_is_full_and_serves_on() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]).await.unwrap();
    let node = Node::builder().redis(&redis.url()).database(&database("full_redis").await);
    let node = node.start().await.unwrap();
    let shown = async || {
        let (ready, health) = (node.get("/ready").await?, node.get("/health").await?.json()?);
        let (status, reasons) = (ready.status, ready.json()?["reasons"].clone());
        anyhow::Ok((status, reasons, health["status"].clone(), health["redis"]["status"].clone()))
    };
    let well = (200, json!([]), json!("ok"), json!("up"));
    until_true(SOON, "the node to be whole", async || Ok(shown().await? == well)).await.unwrap();

    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    // Only `/ready` is asked, since `/health` writes to Redis.
    let reasons = async || anyhow::Ok(node.get("/ready").await?.json()?["reasons"].clone());
    let full = json!(["degraded", "redis_full"]);
    until_true(SOON, "the node to find Redis full", async || Ok(reasons().await? == full)).await.unwrap();
    assert_eq!(shown().await.unwrap(), (200, full, json!("degraded"), json!("full")));
    let told = || node.log().matches("Redis is full").count();
    until_true(SOON, "the log to say so", async || Ok(told() > 0)).await.unwrap();
    assert_eq!(told(), 1, "{}", node.log());
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.command("create", json!({"conversation": "c"})).await.unwrap();
    ada.command("send", json!({"conversation": "c", "key": "k", "content": "x"})).await.unwrap();

    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    until_true(SOON, "the node to be whole again", async || Ok(shown().await? == well)).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_too_old_ends_the_start_with_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(be_old(socket));
        }
    });
    let (status, log) = finished(Node::builder().redis(&url).database(&database("old_redis").await)).await;
    server.abort();
    assert_eq!(status, 1, "{log}");
    for named in ["redis_url", "6.2.14", "7 or later"] {
        assert!(log.contains(named), "does not name {named}: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_redis_that_refuses_the_node_ends_the_start_with_1_and_the_reason() {
    let redis = Redis::start().await.unwrap();
    let acl = ["ACL", "SETUSER", "mute", "on", ">hush", "~*", "resetchannels", "+@all"];
    redis.cli(&acl).await.unwrap();
    redis.cli(&["CONFIG", "SET", "requirepass", "right"]).await.unwrap();
    let database = database("refused").await;
    for (user, reason) in [("", "NOAUTH"), (":hush@", "WRONGPASS"), ("mute:hush@", "NOPERM")] {
        let url = redis.url().replace("redis://", &format!("redis://{user}"));
        let (status, log) = finished(Node::builder().redis(&url).database(&database)).await;
        assert_eq!(status, 1, "{log}");
        assert!(log.contains("redis_url: Redis refuses this node") && log.contains(reason), "{user}: {log}");
        assert!(!log.contains("hush"), "{log}");
    }
}

/// Responds to a connecting client like Redis 6.2.
pub async fn be_old(mut socket: TcpStream) {
    let mut read = [0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut read).await {
        let asked = String::from_utf8_lossy(&read[..count]).to_uppercase();
        let answer = if asked.contains("INFO") {
            let text = "# Server\r\nredis_version:6.2.14\r\n";
            format!("${}\r\n{text}\r\n", text.len())
        } else {
            "+OK\r\n".to_owned()
        };
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

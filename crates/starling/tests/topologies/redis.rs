//! Redis in more than one process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::Encoding;
use starling_testkit::node::Cluster;
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use starling_testkit::{Folder, wait};

use crate::meeting::everything_works;
use crate::person::Person;
use crate::talk::{Manner, Talk};
use crate::{SOON, TURN, database, two_nodes};

/// Timeout for a full recovery after Redis is back.
const BACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_redis_cluster_everything_works_and_each_master_may_die_and_come_back() -> Result<()> {
    let _turn = TURN.lock().await;
    let redis = RedisCluster::start().await?;
    let cluster = two_nodes().redis(&redis.url()).database(&database("redis_cluster").await?).start().await?;
    everything_works(&cluster, "before").await?;
    let talk = Talk::begin(&cluster, "talk", Manner::Once).await?;
    talk.goes_on().await?;
    for (n, master) in redis.nodes().iter().enumerate() {
        master.kill().await?;
        // The other servers stop serving as well, once they have noticed.
        let survivor = &redis.nodes()[(n + 1) % redis.nodes().len()];
        wait::until_true(SOON, "the cluster to be down", async || {
            Ok(survivor.cli(&["CLUSTER", "INFO"]).await?.text().contains("cluster_state:fail"))
        })
        .await?;
        talk.goes_on().await?;
        master.restart().await?;
        for server in redis.nodes() {
            wait::until_true(SOON, "the cluster to be well", async || {
                Ok(server.cli(&["CLUSTER", "INFO"]).await?.text().contains("cluster_state:ok"))
            })
            .await?;
        }
        works_again(&cluster, &format!("after-{n}")).await?;
        talk.goes_on().await?;
    }
    talk.end(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinel_everything_works_and_the_master_may_die() -> Result<()> {
    let _turn = TURN.lock().await;
    let redis = RedisSentinel::start().await?;
    let cluster = two_nodes().redis(&redis.url()).database(&database("sentinel").await?).start().await?;
    everything_works(&cluster, "before").await?;
    let talk = Talk::begin(&cluster, "talk", Manner::Once).await?;
    talk.goes_on().await?;
    // This returns once the replica has become the master.
    redis.kill_master().await?;
    works_again(&cluster, "after-a-death").await?;
    talk.goes_on().await?;
    redis.revive().await?;
    redis.failover().await?;
    works_again(&cluster, "after-a-swap").await?;
    talk.goes_on().await?;
    talk.end(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_examples_for_sentinel_everything_works_and_the_master_may_die_under_load() -> Result<()> {
    let _turn = TURN.lock().await;
    let redis = RedisSentinel::start_from(&example("server.conf"), &example("sentinel.conf")).await?;
    let database = database("sentinel_example").await?;
    let cluster = two_nodes().redis(&redis.url()).database(&database).start().await?;
    let talk = Talk::begin(&cluster, "talk", Manner::Once).await?;
    talk.goes_on().await?;
    redis.kill_master().await?;
    works_again(&cluster, "after-a-death").await?;
    talk.goes_on().await?;
    talk.end(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_examples_for_a_cluster_everything_works_and_a_replica_takes_over_under_load() -> Result<()>
{
    let _turn = TURN.lock().await;
    let redis = RedisCluster::start_from(&[&example("server.conf"), &example("cluster.conf")]).await?;
    let database = database("cluster_example").await?;
    let cluster = two_nodes().redis(&redis.url()).database(&database).start().await?;
    let talk = Talk::begin(&cluster, "talk", Manner::Once).await?;
    talk.goes_on().await?;
    redis.kill_master().await?;
    works_again(&cluster, "after-a-death").await?;
    talk.goes_on().await?;
    talk.end(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_examples_for_a_server_and_its_users_everything_works_on_redis_and_on_valkey() -> Result<()>
{
    let _turn = TURN.lock().await;
    let server = example("server.conf");
    let server = server.to_str().context("a path in UTF-8")?;
    for program in ["redis-server", "valkey-server"] {
        let folder = Folder::new("users")?;
        // Empty at the start: the test asks the server whether it has begun as the user `default`, whom the example turns off.
        let users = folder.write("users.acl", "")?;
        let options = ["--include", server, "--aclfile", users.to_str().context("a path in UTF-8")?];
        let redis = Redis::start_program(program, &options).await?;
        std::fs::copy(example("users.acl"), &users)?;
        redis.cli(&["ACL", "LOAD"]).await?;
        let turned_off = redis.cli(&["GET", "key"]).await;
        ensure!(turned_off.is_err(), "{program} lets strangers in");
        let url = format!("redis://starling:CHANGE-ME@{}", redis.address());
        let cluster =
            two_nodes().redis(&url).database(&database(&format!("on_{program}")).await?).start().await?;
        everything_works(&cluster, program).await.context(program)?;
        for node in cluster.nodes() {
            let health = node.get("/health").await?.json()?;
            ensure!(health["status"] == "ok", "{program}: {health}");
        }
    }
    Ok(())
}

/// A file of `deploy/redis`.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/redis").join(name)
}

/// Checks that after Redis is back both nodes hear each other, and that within [`BACK`] everything works, including publications and
/// typing, which only Redis carries.
async fn works_again(cluster: &Cluster, place: &str) -> Result<()> {
    let since = Instant::now();
    for node in cluster.nodes() {
        let ready = async || Ok(node.get("/ready").await?.status == 200);
        wait::until_true(SOON, "a node to hear the others", ready).await?;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let begun = since.elapsed();
        match everything_works(cluster, &format!("{place}-{tries}")).await {
            Err(error) if begun < BACK => println!("{place}: {begun:?} after Redis was back: {error:#}"),
            outcome => {
                println!("{place}: all is well {begun:?} after Redis was back");
                return outcome;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_while_redis_is_away_and_who_is_there_already_see_each_other_when_it_is_back() -> Result<()>
{
    let _turn = TURN.lock().await;
    let cluster = two_nodes().database(&database("joining").await?).start().await?;
    let mut ada = Person::connect(&cluster, 0, "ada", "c", Encoding::Json).await?;
    ada.client()?.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
    ada.client()?.command("join", json!({"conversation": "c"})).await?;
    cluster.redis()?.kill().await?;
    let mut bob = Person::connect(&cluster, 1, "bob", "c", Encoding::MessagePack).await?;
    let joined = bob.client()?.command("join", json!({"conversation": "c"})).await?;
    ensure!(joined["online"] == json!(["bob"]), "{joined}");
    cluster.redis()?.restart().await?;
    ada.sees("presence", "bob", "online", true).await?;
    bob.sees("presence", "ada", "online", true).await
}

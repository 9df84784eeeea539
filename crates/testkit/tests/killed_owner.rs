//! Servers do not outlive a test process that was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use starling_testkit::postgres::Postgres;
use starling_testkit::process::is_alive;
use starling_testkit::redis::Redis;
use starling_testkit::wait;

/// Set in the process that is to be killed: this test once more, in another part.
const OWNER: &str = "KILLED_OWNER";

#[tokio::test]
async fn a_killed_process_takes_its_servers_along() {
    if std::env::var_os(OWNER).is_some() {
        own_servers().await;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_takes_its_servers_along", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("servers: ").map(|(_, pids)| pids.to_owned()))
        .expect("the owner's servers start")
        .split(' ')
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let all_gone = async || Ok(pids.iter().all(|pid| !is_alive(*pid)));
    wait::until_true(Duration::from_secs(20), "the servers' end", all_gone).await.unwrap();
}

/// Starts servers, says which, and waits to be killed.
async fn own_servers() -> ! {
    let (redis, postgres) = tokio::try_join!(Redis::start(), Postgres::start()).unwrap();
    println!("servers: {} {}", redis.pid(), postgres.pid());
    std::future::pending().await
}

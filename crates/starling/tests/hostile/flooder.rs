//! One user at full speed on all nodes: the limit covers both nodes, and a quiet user is still served.

use std::time::{Duration, Instant};

use serde_json::json;
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Cluster;
use tokio::task::JoinSet;

use crate::{SOON, TURN};

/// Writes that one user may make per minute, over all nodes.
const WRITES_PER_MINUTE: u32 = 60;
/// Number of messages that the quiet user sends.
const QUIET: u64 = 30;
/// Number of connections of the loud user on each node.
const SOCKETS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn one_user_at_full_speed_on_all_nodes_does_not_starve_the_rest() {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2)
        .env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", &WRITES_PER_MINUTE.to_string())
        .start()
        .await
        .unwrap();
    let mut quiet = Vec::new();
    for node in cluster.nodes() {
        let mut client =
            Client::connect(&node.ws_url(), &cluster.token("quiet"), Encoding::Json).await.unwrap();
        client.set_patience(SOON);
        quiet.push(client);
    }
    quiet[0].command("create", json!({"conversation": "c", "members": ["loud"]})).await.unwrap();
    quiet[1].command("join", json!({"conversation": "c"})).await.unwrap();

    let (stop, _) = tokio::sync::watch::channel(false);
    let begun = Instant::now();
    let mut floods = JoinSet::new();
    for (n, node) in cluster.nodes().iter().enumerate() {
        for socket in 0..SOCKETS {
            let mut client =
                Client::connect(&node.ws_url(), &cluster.token("loud"), Encoding::MessagePack).await.unwrap();
            client.set_patience(SOON);
            let stopped = stop.subscribe();
            floods.spawn(async move {
                let (mut accepted, mut refused, mut k) = (0_u64, 0_u64, 0_u64);
                while !*stopped.borrow() {
                    k += 1;
                    let key = format!("{n}-{socket}-{k}");
                    let send = json!({"conversation": "c", "key": key, "content": "!"});
                    match client.command("send", send).await {
                        Ok(_) => accepted += 1,
                        Err(Failure::Refused(reply)) => {
                            assert_eq!(reply.code, "rate_limited");
                            assert!(reply.retry_after_ms.is_some(), "{reply:?}");
                            refused += 1;
                        }
                        Err(failure) => panic!("{failure}"),
                    }
                }
                (n, accepted, refused)
            });
        }
    }

    // Each send is acknowledged; the speed depends on the machine.
    let mut slowest = Duration::ZERO;
    for k in 0..QUIET {
        let send = json!({"conversation": "c", "key": format!("q{k}"), "content": "quiet"});
        let asked = Instant::now();
        quiet[(k % 2) as usize].command("send", send).await.expect("the quiet one is served");
        slowest = slowest.max(asked.elapsed());
        quiet[1].wait_for(|event| event["ev"] == "message" && event["sender"] == "quiet").await.unwrap();
    }
    stop.send_replace(true);

    let (mut accepted, mut refused) = (0, [0, 0]);
    while let Some(flood) = floods.join_next().await {
        let (n, more, less) = flood.unwrap();
        accepted += more;
        refused[n] += less;
    }
    let took = begun.elapsed();
    println!(
        "in {took:?} the loud one sent {accepted}, was refused {refused:?} times; the quiet one waited {slowest:?} at most"
    );
    assert!(refused.iter().all(|refused| *refused > 0), "{refused:?}");
    // A burst of one minute and what is regained in the meantime, over both nodes together, not for each. A node whose
    // Redis did not respond, on a machine that stalled, had to count for itself.
    let mut bursts = 1;
    for node in cluster.nodes() {
        let unanswered =
            node.metric("starling_session_store_errors_total", "command=\"take\"").await.unwrap()
                + node.metric("starling_session_store_refused_total", "").await.unwrap();
        bursts += u64::from(unanswered > 0.0);
    }
    let allowed =
        bursts * u64::from(WRITES_PER_MINUTE) + took.as_secs() * u64::from(WRITES_PER_MINUTE) / 60 + 2;
    assert!(accepted <= allowed, "{accepted} of {allowed} in {took:?}");
}

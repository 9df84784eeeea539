//! Bridges with a defect put in on purpose lose something: so the counts of `survival` can tell.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use starling_testkit::node::Node;
use starling_testkit::wait::until_true;
use tokio::time::sleep;

use crate::SOON;
use crate::place::{Place, connected};
use crate::survival::{IN, OUT, add_until, heard, payloads, publish_until, until_all_are_taken, until_done};

/// How often the node is killed.
const KILLS: usize = 3;

async fn kill_again_and_again(node: &Node) {
    for _ in 0..KILLS {
        sleep(Duration::from_secs(2)).await;
        node.kill().await.unwrap();
        node.start_again().await.unwrap();
        connected(node, 1.0).await;
    }
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_acknowledges_before_the_commit_loses_messages() {
    let place = Place::start().await;
    let url = place.rabbitmq.url();
    let node = place.node(&url, IN).env("STARLING_SABOTAGE", "early-ack").start().await.unwrap();
    connected(&node, 1.0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (stop, url) = (stop.clone(), url.clone());
        tokio::spawn(async move { publish_until(&url, &stop).await })
    };
    kill_again_and_again(&node).await;
    stop.store(true, Ordering::Relaxed);
    let sent = publishing.await.unwrap();
    until_all_are_taken(&place, &[&node]).await;
    // The last ones are committed with the delay of the defect.
    sleep(Duration::from_secs(5)).await;
    let jobs: HashSet<String> = payloads(&place).await.into_iter().collect();
    println!("{sent} messages, {} lost", sent - jobs.len());
    assert!(jobs.len() < sent, "nothing was lost of {sent} messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_jobs_are_done_before_the_confirmation_loses_jobs() {
    let place = Place::start().await;
    let node =
        place.node(&place.rabbitmq.url(), OUT).env("STARLING_SABOTAGE", "early-done").start().await.unwrap();
    connected(&node, 1.0).await;
    let counter = heard(&place).await;
    let stop = AtomicBool::new(false);
    let (added, ()) = tokio::join!(add_until(&place, &stop), async {
        kill_again_and_again(&node).await;
        stop.store(true, Ordering::Relaxed);
    });
    until_done(&place, added.len()).await;
    let quiet = async || {
        let before = counter.seen().len();
        sleep(Duration::from_secs(3)).await;
        Ok(counter.seen().len() == before)
    };
    until_true(SOON, "messages to come no more", quiet).await.unwrap();
    let seen = counter.seen();
    let lost = added.iter().filter(|id| !seen.contains_key(*id)).count();
    println!("{} jobs, {lost} lost", added.len());
    assert!(lost > 0, "nothing was lost of {} jobs", added.len());
}

//! Nothing is lost when nodes, RabbitMQ, the network and the database die in turn. `controls` shows that these counts can tell.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::BasicProperties;
use starling_jobs::{JobState, NewJob};
use starling_testkit::node::Node;
use starling_testkit::proxy::Link;
use starling_testkit::wait::until_true;
use tokio::time::sleep;

use crate::SOON;
use crate::amqp::{Amqp, Counter, waiting};
use crate::place::{Place, connected};

/// How long each state lasts before the next fault.
const BETWEEN: Duration = Duration::from_secs(2);

/// How long a publisher waits between messages. A slow machine lengthens the faults: then more messages come, which have to be carried.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(30);
/// How many jobs are added at a time, and the time between batches.
const BATCH: usize = 10;
const BETWEEN_BATCHES: Duration = Duration::from_millis(400);

pub const IN: &str = "[rabbitmq.in.orders]\nexchange = \"shop\"\nqueue = \"orders\"\n";
pub const OUT: &str = "[rabbitmq.out.events]\nqueue = \"events\"\nexchange = \"starling\"\n";

/// Everything dies in turn, while something is under way.
async fn everything_dies(place: &Place, nodes: &[Node; 2], link: &Link) {
    for node in nodes {
        sleep(BETWEEN).await;
        node.kill().await.unwrap();
        node.start_again().await.unwrap();
    }
    sleep(BETWEEN).await;
    link.cut();
    sleep(BETWEEN).await;
    place.rabbitmq.restart().await.unwrap();
    sleep(BETWEEN).await;
    // A network that carries nothing, for longer than a missing heartbeat takes to be noticed.
    link.pause();
    sleep(3 * BETWEEN).await;
    link.resume();
    sleep(BETWEEN).await;
    // A RabbitMQ that hangs.
    place.rabbitmq.stop().unwrap();
    sleep(3 * BETWEEN).await;
    place.rabbitmq.resume().unwrap();
    sleep(BETWEEN).await;
    place.postgres.crash().await.unwrap();
    place.postgres.start_again().await.unwrap();
    sleep(BETWEEN).await;
    // A node that is told to end loses nothing, either.
    let status = nodes[0].terminate(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", nodes[0].log());
    nodes[0].start_again().await.unwrap();
    sleep(BETWEEN).await;
    // All at once.
    let (node, broker) = tokio::join!(nodes[1].kill(), place.rabbitmq.kill());
    node.and(broker).unwrap();
    let (node, broker) = tokio::join!(nodes[1].start_again(), place.rabbitmq.restart());
    node.and(broker).unwrap();
    sleep(BETWEEN).await;
}

/// Two nodes with these bridges. The second one reaches RabbitMQ through a link.
async fn two_nodes(place: &Place, bridges: &str) -> ([Node; 2], Link) {
    let link = Link::to(place.rabbitmq.address()).await.unwrap();
    let url = place.rabbitmq.url();
    let one = place.node(&url, bridges).start().await.unwrap();
    let through = format!("{}?heartbeat=1", link.through(&url));
    let other = place.node(&through, bridges).start().await.unwrap();
    for node in [&one, &other] {
        connected(node, 1.0).await;
    }
    ([one, other], link)
}

/// Publishes numbered messages until it is told to stop. Each one is sent until RabbitMQ has it. Returns their number.
pub async fn publish_until(url: &str, stop: &AtomicBool) -> usize {
    let mut sent = 0;
    let mut amqp = None;
    while !stop.load(Ordering::Relaxed) {
        if amqp.is_none() {
            amqp = Amqp::connect(url).await.ok();
        }
        let Some(open) = &amqp else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let properties = BasicProperties::default().with_message_id(format!("m{sent}").into());
        match open.publish("shop", "order", properties, sent.to_string().as_bytes()).await {
            Ok(()) => sent += 1,
            Err(_) => amqp = None,
        }
        sleep(BETWEEN_MESSAGES).await;
    }
    sent
}

/// The payloads of the jobs that messages have become, in any order.
pub async fn payloads(place: &Place) -> Vec<String> {
    place.lines("SELECT payload FROM jobs WHERE queue = 'orders'").await.unwrap()
}

/// Waits until RabbitMQ has no message left that is to become a job, and the nodes none either.
pub async fn until_all_are_taken(place: &Place, nodes: &[&Node]) {
    let url = place.rabbitmq.url();
    let empty = async || {
        for node in nodes {
            if node.metric("starling_rabbitmq_unacknowledged", "").await? != 0.0 {
                return Ok(false);
            }
        }
        Ok(waiting(&url, "starling.orders").await? == 0)
    };
    until_true(2 * SOON, "the queue of RabbitMQ to be empty", empty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_or_becomes_two_jobs_when_everything_dies_in_turn() {
    let place = Place::start().await;
    let (nodes, link) = two_nodes(&place, IN).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (stop, url) = (stop.clone(), place.rabbitmq.url());
        tokio::spawn(async move { publish_until(&url, &stop).await })
    };
    everything_dies(&place, &nodes, &link).await;
    stop.store(true, Ordering::Relaxed);
    let sent = publishing.await.unwrap();
    let all_there = async || Ok(payloads(&place).await.len() >= sent);
    let waited = until_true(2 * SOON, "all jobs", all_there).await;
    until_all_are_taken(&place, &[&nodes[0], &nodes[1]]).await;
    let jobs = payloads(&place).await;
    let different: HashSet<&String> = jobs.iter().collect();
    println!(
        "{sent} messages, {} jobs, {} lost, {} double",
        jobs.len(),
        sent - different.len(),
        jobs.len() - different.len()
    );
    assert_eq!((different.len(), jobs.len()), (sent, sent), "{waited:?}");
    assert!(sent > 300, "{sent} messages show little");
}

/// Adds numbered jobs until it is told to stop. Returns their ids.
pub async fn add_until(place: &Place, stop: &AtomicBool) -> HashSet<String> {
    let mut added = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let jobs: Vec<NewJob> = (0..BATCH)
            .map(|_| NewJob { attempts_max: 100, ..NewJob::new("t".into(), "events", "k", "1".into()) })
            .collect();
        while place.store.enqueue(&jobs).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        added.extend(jobs.iter().map(|job| job.id.to_string()));
        sleep(BETWEEN_BATCHES).await;
    }
    added
}

/// Waits until this many jobs are done.
pub async fn until_done(place: &Place, jobs: usize) {
    let all_done = async || {
        let counts = place.store.counts(Some(&"t".into())).await?;
        let done: u64 =
            counts.iter().filter(|count| count.state == JobState::Done).map(|count| count.jobs).sum();
        Ok(done == jobs as u64)
    };
    until_true(3 * SOON, "all jobs to be done", all_done).await.unwrap();
}

/// Declares the exchange's queue before there are jobs, so that none is returned.
pub async fn heard(place: &Place) -> Counter {
    let amqp = Amqp::connect(&place.rabbitmq.url()).await.unwrap();
    amqp.bind("heard", "starling", "#").await.unwrap();
    Counter::start(&place.rabbitmq.url(), "heard")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_when_everything_dies_in_turn() {
    let place = Place::start().await;
    let (nodes, link) = two_nodes(&place, OUT).await;
    let counter = heard(&place).await;
    let stop = AtomicBool::new(false);
    let (added, ()) = tokio::join!(add_until(&place, &stop), async {
        everything_dies(&place, &nodes, &link).await;
        stop.store(true, Ordering::Relaxed);
    });
    until_done(&place, added.len()).await;
    let all_heard = async || Ok(counter.seen().len() >= added.len());
    let waited = until_true(SOON, "all messages", all_heard).await;
    let seen = counter.seen();
    let lost = added.iter().filter(|id| !seen.contains_key(*id)).count();
    let again: u32 = seen.values().map(|times| times - 1).sum();
    println!("{} jobs, {lost} lost, {again} messages came again", added.len());
    assert_eq!(lost, 0, "{waited:?}");
    assert!(added.len() > 300, "{} jobs show little", added.len());
}

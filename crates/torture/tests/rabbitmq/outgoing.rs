//! Jobs that become messages.

use starling_jobs::{AttemptOutcome, Backoff, JobState, NewJob};
use starling_testkit::proxy::Link;
use starling_testkit::wait::{until, until_true};
use std::time::Duration;

use crate::SOON;
use crate::amqp::{Amqp, header};
use crate::place::{Place, connected};

const BRIDGES: &str = r#"
[rabbitmq.out.events]
queue = "events"
exchange = "starling"
routing_key = "{tenant}.{queue}.{kind}"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_when_a_queue_has_its_message_and_waits_while_rabbitmq_is_away() {
    let place = Place::start().await;
    let mut link = Link::to(place.rabbitmq.address()).await.unwrap();
    link.refuse().await;
    // The node serves although RabbitMQ is away.
    let node = place.node(&link.through(&place.rabbitmq.url()), BRIDGES).start().await.unwrap();
    let early = place.add(NewJob::new("t".into(), "events", "created", r#"{"n": 1}"#.into())).await;
    let is_told = async || Ok(node.log().contains("RabbitMQ can't be used"));
    until_true(SOON, "the log", is_told).await.unwrap();
    let health = node.get("/health").await.unwrap().json().unwrap();
    assert_eq!(health["rabbitmq"], serde_json::json!({"bridges": 1, "working": 0}), "{health}");
    let standing = place.store.job(early).await.unwrap().unwrap();
    assert_eq!((standing.state, standing.attempts.len()), (JobState::Ready, 0), "no attempt was made");

    link.accept().await.unwrap();
    connected(&node, 1.0).await;
    let amqp = Amqp::connect(&place.rabbitmq.url()).await.unwrap();
    // The queue may be bound only after the first attempt, which is then repeated.
    amqp.bind("heard", "starling", "t.events.*").await.unwrap();
    place.done(early).await;
    let message = until(SOON, "the message", async || amqp.take("heard").await).await.unwrap();
    assert_eq!(message.data, br#"{"n": 1}"#);
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("starling", "t.events.created"));
    let properties = &message.properties;
    assert_eq!(properties.message_id().as_ref().map(|id| id.to_string()), Some(early.to_string()));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("created"));
    assert_eq!(header(&message, "starling-tenant").as_deref(), Some("t"));
    assert_eq!(header(&message, "starling-queue").as_deref(), Some("events"));

    // No queue takes this one: the job fails, and is tried again.
    let backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_millis(200) };
    let unheard = NewJob { attempts_max: 2, backoff, ..NewJob::new("u".into(), "events", "k", "1".into()) };
    let unheard = place.add(unheard).await;
    let state = async || {
        Ok(place.store.standing(unheard).await?.is_some_and(|standing| standing.state == JobState::Failed))
    };
    until_true(SOON, "the job to fail", state).await.unwrap();
    let failed = place.store.job(unheard).await.unwrap().unwrap();
    let outcomes: Vec<_> = failed.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [AttemptOutcome::Failed; 2]);
    let error = failed.attempts[1].error.clone().unwrap();
    assert!(
        error.contains("no queue of RabbitMQ takes the message") && error.contains("NO_ROUTE"),
        "{error}"
    );
    // With a queue it is published, when an operator retries it.
    amqp.bind("heard", "starling", "u.#").await.unwrap();
    place.store.retry(&[unheard]).await.unwrap();
    place.done(unheard).await;
    let outcome = async |labels| node.metric("starling_rabbitmq_published_total", labels).await.unwrap();
    assert_eq!(outcome("outcome=\"confirmed\"").await, 2.0);
    assert!(outcome("outcome=\"returned\"").await >= 2.0);
    assert!(node.metrics().await.unwrap().contains("starling_rabbitmq_confirm_seconds"));
    // lapin would have written the whole message.
    assert!(!node.log().contains("Server returned us a message"));
    let status = node.terminate(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
}

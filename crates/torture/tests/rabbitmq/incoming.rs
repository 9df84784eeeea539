//! Messages that become jobs, and those that can't.

use lapin::BasicProperties;
use lapin::message::Delivery;
use starling_jobs::JobState;
use starling_testkit::wait::{until, until_true};

use crate::SOON;
use crate::amqp::{Amqp, header, headers, waiting};
use crate::place::{Place, connected};

const BRIDGES: &str = r##"
[rabbitmq.in.orders]
exchange = "shop"
routing_keys = ["order.#"]
queue = "orders"
attempts = 7

[rabbitmq.in.open]
exchange = "shop"
routing_keys = ["open.#"]
rabbitmq_queue = "for-starling"
queue_type = "quorum"
queue = "{header.queue}"
allowed_queues = ["mail", "import-*"]
tenant = "{header.tenant}"
allowed_tenants = ["t*"]
kind = "{type}"
"##;

/// Waits for the next dead letter.
async fn dead_letter(amqp: &Amqp, queue: &str) -> Delivery {
    until(SOON, "a dead letter", async || amqp.take(queue).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_become_jobs_once_and_others_dead_letters_with_the_reason() {
    let place = Place::start().await;
    let url = place.rabbitmq.url();
    let node = place.node(&url, BRIDGES).start().await.unwrap();
    connected(&node, 2.0).await;
    // A node without the role carries no bridge.
    let gateway = place.node(&url, BRIDGES).env("STARLING_ROLES", "gateway").start().await.unwrap();
    assert!(!gateway.metrics().await.unwrap().contains("starling_rabbitmq_"));
    drop(gateway);
    let amqp = Amqp::connect(&url).await.unwrap();
    let id = |id: &str| BasicProperties::default().with_message_id(id.into());
    let send = async |key: &str, properties: BasicProperties, body: &[u8]| {
        amqp.publish("shop", key, properties, body).await.unwrap();
    };

    // The same message twice, and one without an id.
    send("order.created", id("m1").with_priority(4), br#"{"n": 1}"#).await;
    send("order.created", id("m1"), br#"{"n": 1}"#).await;
    send("order.paid", BasicProperties::default(), b"2").await;
    let chosen = headers(&[("queue", "import-a"), ("tenant", "t1")]).with_type("k".into());
    send("open.x", chosen.with_message_id("m2".into()), b"[3]").await;
    // What can't become a job. RabbitMQ would refuse the user's name from anybody else, and drop the message after its time.
    let large = format!("\"{}\"", "x".repeat(300 << 10));
    send(
        "order.large",
        id("large").with_user_id("guest".into()).with_expiration("600000".into()),
        large.as_bytes(),
    )
    .await;
    send("order.broken", id("broken"), b"{").await;
    for (name, tenant, kind) in
        [("other", "t1", "k"), ("starling.test", "t1", "k"), ("mail", "u", "k"), ("mail", "t1", "k k")]
    {
        let properties = headers(&[("queue", name), ("tenant", tenant)]).with_type(kind.into());
        send("open.y", properties, b"1").await;
    }
    // Nothing wants this one, so that RabbitMQ returns it.
    assert!(amqp.publish("shop", "refund.created", BasicProperties::default(), b"1").await.is_err());

    let settled = async || {
        let received = async |labels| node.metric("starling_rabbitmq_received_total", labels).await;
        Ok(received("outcome=\"added\"").await? == 3.0 && received("outcome=\"rejected\"").await? == 6.0)
    };
    until_true(SOON, "all messages to be settled", settled).await.unwrap();
    let known = node.metric("starling_rabbitmq_received_total", "outcome=\"known\"").await.unwrap();
    assert_eq!(known, 1.0, "the second message m1");

    let orders = place.jobs("default", "orders").await.unwrap();
    let shown: Vec<_> = orders.iter().map(|job| (&*job.kind, &*job.payload, job.backlog.priority)).collect();
    assert_eq!(shown, [("order.created", r#"{"n": 1}"#, 4), ("order.paid", "2", 0)]);
    assert!(orders.iter().all(|job| job.state == JobState::Ready && job.attempts_max == 7));
    let imports = place.jobs("t1", "import-a").await.unwrap();
    assert_eq!(imports.iter().map(|job| (&*job.kind, &*job.payload)).collect::<Vec<_>>(), [("k", "[3]")]);

    for (reason, message_id) in [("too_large", "large"), ("not_json", "broken")] {
        let dead = dead_letter(&amqp, "starling.orders.dead-letters").await;
        assert_eq!(header(&dead, "starling-reason").as_deref(), Some(reason));
        assert_eq!(header(&dead, "starling-bridge").as_deref(), Some("orders"));
        assert_eq!(dead.properties.message_id().as_ref().map(|id| id.as_str()), Some(message_id));
        assert_eq!((dead.properties.expiration(), dead.properties.user_id()), (&None, &None));
        assert!(header(&dead, "starling-error").is_some_and(|error| !error.is_empty()));
    }
    for reason in ["queue", "queue", "tenant", "kind"] {
        let dead = dead_letter(&amqp, "for-starling.dead-letters").await;
        assert_eq!(
            (header(&dead, "starling-reason").as_deref(), dead.routing_key.as_str()),
            (Some(reason), "open.y")
        );
    }
    for queue in
        ["starling.orders", "for-starling", "starling.orders.dead-letters", "for-starling.dead-letters"]
    {
        // A quorum queue is counted every few seconds.
        let empty = async || Ok(waiting(&url, queue).await? == 0);
        until_true(SOON, queue, empty).await.unwrap();
    }
    // No part of a message is in the log.
    assert!(!node.log().contains("xxxx"));
    let shown = node.metrics().await.unwrap();
    for metric in starling_metrics() {
        assert!(
            shown.contains(metric) || metric.contains("published") || metric.contains("confirm"),
            "{metric}"
        );
    }
    node.terminate(SOON).await.unwrap();
}

/// The metrics of bridges, as the page of metrics lists them.
fn starling_metrics() -> impl Iterator<Item = &'static str> {
    let page = include_str!("../../../../docs/metrics.md");
    let names = page.split('`').filter(|word| word.starts_with("starling_rabbitmq_"));
    names.filter(|word| !word.contains('*'))
}

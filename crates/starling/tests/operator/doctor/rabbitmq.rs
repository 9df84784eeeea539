//! RabbitMQ: away, with a wrong password, and without what a bridge expects.

use starling_testkit::rabbitmq::Rabbitmq;

use super::{doctor, examined};

const DECLARED: &str = "[rabbitmq.out.events]\nqueue = \"events\"\nexchange = \"starling\"\n";
const EXPECTED: &str = "[rabbitmq.in.orders]\nexchange = \"shop\"\nqueue = \"orders\"\ndeclare = false\n[rabbitmq.out.events]\nqueue = \"events\"\nexchange = \"amq.topic\"\n";

#[tokio::test]
async fn a_rabbitmq_that_is_not_there_is_a_problem_and_none_is_fine() {
    examined(doctor()).await.assert_well().assert("rabbitmq", "rabbitmq_url", "good", "is not set");
    let away = doctor().env("RABBITMQ_URL", "amqp://ann:hush@127.0.0.1:1");
    let report = examined(away.arg("--config").arg("starling.toml").file("starling.toml", DECLARED)).await;
    report.assert("rabbitmq", "rabbitmq_url", "problem", "refused");
    report.assert("configuration", "rabbitmq.out", "good", "events");
    assert!(!report.text.contains("hush"), "{}", report.text);
    let wrong = examined(doctor().arg("--config").arg("starling.toml").file("starling.toml", DECLARED)).await;
    wrong.assert(
        "configuration",
        "together",
        "problem",
        "rabbitmq_url: is not set, but [rabbitmq.out.events]",
    );
    let elsewhere = doctor().env("STARLING_ROLES", "gateway").file("starling.toml", DECLARED);
    let elsewhere = examined(elsewhere.arg("--config").arg("starling.toml")).await;
    elsewhere.assert_well().assert("rabbitmq", "rabbitmq_url", "good", "not needed");
}

#[tokio::test]
async fn a_wrong_password_and_what_a_bridge_lacks_are_found() {
    let rabbitmq = Rabbitmq::start().await.unwrap();
    let with = |url: &str, bridges: &str| {
        let doctor = doctor().env("RABBITMQ_URL", url).file("starling.toml", bridges);
        doctor.arg("--config").arg("starling.toml")
    };
    let report = examined(with(&rabbitmq.url(), DECLARED)).await;
    report.assert_well().assert("rabbitmq", "reachable", "good", "logged in");
    report.assert("rabbitmq", "out.events", "good", "declares it");
    let report = examined(with(&rabbitmq.url(), EXPECTED)).await;
    report.assert("rabbitmq", "in.orders", "problem", "NOT_FOUND");
    report.assert("rabbitmq", "out.events", "good", "has what it needs");
    let wrong = rabbitmq.url().replace("guest:guest", "guest:hush");
    let report = examined(with(&wrong, DECLARED)).await;
    report.assert("rabbitmq", "rabbitmq_url", "problem", "ACCESS_REFUSED");
    assert!(!report.text.contains("hush"), "{}", report.text);
}

//! TLS to RabbitMQ.

use starling_jobs::NewJob;
use starling_testkit::rabbitmq::Rabbitmq;
use starling_testkit::tls::Certificates;
use starling_testkit::wait::until_true;

use crate::SOON;
use crate::amqp::Amqp;
use crate::place::{Place, connected};
use crate::survival::OUT;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_with_tls_if_its_authority_is_trusted() {
    let certificates = Certificates::make().await.unwrap();
    let rabbitmq = Rabbitmq::start_with_tls(&certificates).await.unwrap();
    let url = rabbitmq.tls_url().unwrap();
    let place = Place::with(rabbitmq).await;
    let stranger = place.node(&url, OUT).start().await.unwrap();
    let refused = async || Ok(stranger.log().contains("invalid peer certificate"));
    until_true(SOON, "the certificate to be refused", refused).await.unwrap();
    assert!(!stranger.log().contains("guest:guest"));
    drop(stranger);

    let trusting = place
        .node(&url, OUT)
        .file("ca.pem", &certificates.authority)
        .env("STARLING_RABBITMQ_CA_FILE", "ca.pem")
        .start()
        .await
        .unwrap();
    connected(&trusting, 1.0).await;
    let amqp = Amqp::connect(&place.rabbitmq.url()).await.unwrap();
    amqp.bind("heard", "starling", "#").await.unwrap();
    let id = place.add(NewJob::new("t".into(), "events", "k", "1".into())).await;
    place.done(id).await;
    assert!(amqp.take("heard").await.unwrap().is_some());
}

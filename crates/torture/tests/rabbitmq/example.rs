//! The example of docs/rabbitmq.md.

use starling_jobs::NewJob;
use starling_testkit::wait::until_true;

use crate::SOON;
use crate::place::{Place, connected};

/// The page.
const PAGE: &str = include_str!("../../../../docs/rabbitmq.md");

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_page_sends_a_job_to_rabbitmq_and_back() {
    let place = Place::start().await;
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    let (file, _) = rest.split_once("```").unwrap();
    // The variable with the address wins over the file's.
    let node = place.node(&place.rabbitmq.url(), file).start().await.unwrap();
    connected(&node, 2.0).await;
    let id = place.add(NewJob::new("default".into(), "events", "hello", r#"{"n": 1}"#.into())).await;
    place.done(id).await;
    let came_back = async || Ok(!place.jobs("default", "heard").await?.is_empty());
    until_true(SOON, "the job to come back", came_back).await.unwrap();
    let heard = place.jobs("default", "heard").await.unwrap();
    let shown: Vec<_> = heard.iter().map(|job| (&*job.kind, &*job.payload)).collect();
    assert_eq!(shown, [("events.hello", r#"{"n": 1}"#)]);
}

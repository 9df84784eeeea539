//! One worker that is killed, frozen or drained, and how soon that is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_jobs::sqlite::SqliteJobs;
use starling_jobs::{AttemptOutcome, JobDetails, JobState, JobStore};
use starling_testkit::Folder;
use starling_testkit::node::Node;
use starling_testkit::wait::until_true;

use crate::place::{Place, SOON, builder, job};

fn outcomes(job: &JobDetails) -> Vec<(u16, AttemptOutcome)> {
    job.attempts.iter().map(|attempt| (attempt.number, attempt.outcome)).collect()
}

/// Waits until a metric of the node has this value.
async fn until_metric(node: &Node, name: &str, labels: &str, value: f64) {
    let has = async || Ok(node.metric(name, labels).await? == value);
    until_true(SOON, name, has).await.unwrap();
}

/// How many workers a node has found dead by this.
async fn found_dead(node: &Node, noticed: &str) -> f64 {
    node.metric("starling_job_workers_dead_total", &format!("noticed=\"{noticed}\"")).await.unwrap()
}

/// Kills the worker that has a job. Returns the time until that was noticed, and the other worker, which has done the job.
async fn kill_one_of_two(place: &Place, is_locked: bool) -> (Duration, Node) {
    let nodes = [place.worker().await, place.worker().await];
    for node in &nodes {
        until_metric(node, "starling_job_worker_locked", "", f64::from(u8::from(is_locked))).await;
    }
    let id = place.add(job("wait", "[600, 0]")).await;
    let (killed, _) = place.doer(id, &nodes).await;
    killed.kill().await.unwrap();
    let took = place.lost_after(id, Instant::now()).await;
    let done = place.done(id).await;
    assert_eq!(outcomes(&done), [(1, AttemptOutcome::Lost), (2, AttemptOutcome::Done)]);
    assert_eq!((done.attempts[0].worker.as_str(), done.result.as_deref()), (killed.name(), Some("2")));
    let [one, other] = nodes;
    (took, if one.is_running() { one } else { other })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_noticed_by_its_lock() {
    let place = Place::direct("killed").await;
    let (took, living) = kill_one_of_two(&place, true).await;
    println!("noticed after {took:?}");
    assert_eq!((found_dead(&living, "lock").await, found_dead(&living, "beats").await), (1.0, 0.0));
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lock_a_killed_worker_is_noticed_by_its_beats() {
    let place = Place::pooled("killed_pooled").await;
    let (took, living) = kill_one_of_two(&place, false).await;
    println!("noticed after {took:?}");
    assert_eq!((found_dead(&living, "lock").await, found_dead(&living, "beats").await), (0.0, 1.0));
    assert!(took > Duration::from_millis(1500), "the last beat was a second old at most: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_loses_its_job_and_finishes_nothing_when_it_goes_on() {
    let place = Place::direct("frozen").await;
    let nodes = [place.worker().await, place.worker().await];
    // The first attempt is ready to finish when its worker goes on; the second one goes on for longer than the test looks.
    let id = place.add(job("wait", "[2, 600, 0]")).await;
    let (frozen, other) = place.doer(id, &nodes).await;
    frozen.stop().unwrap();
    println!("noticed after {:?}", place.lost_after(id, Instant::now()).await);
    assert_eq!((found_dead(other, "lock").await, found_dead(other, "beats").await), (0.0, 1.0));
    let runs_again = async || {
        let running = place.store.standing(id).await?.and_then(|standing| standing.running);
        Ok(running.is_some_and(|running| running.worker == other.name()))
    };
    until_true(SOON, "the other worker to have the job", runs_again).await.unwrap();
    frozen.resume().unwrap();
    let is_told = async || Ok(frozen.log().contains("this worker was taken for dead"));
    until_true(SOON, "the frozen worker to be told", is_told).await.unwrap();
    // It works again, under another id.
    until_metric(frozen, "starling_job_worker_locked", "", 1.0).await;
    assert!(runs_again().await.unwrap(), "{:?}", place.job(id).await);
    assert_eq!(outcomes(&place.job(id).await), [(1, AttemptOutcome::Lost)]);
    other.kill().await.unwrap();
    let done = place.done(id).await;
    assert_eq!((done.attempts[2].worker.as_str(), done.result.as_deref()), (frozen.name(), Some("3")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_hands_jobs_back_and_their_attempts_do_not_count() {
    // The second kind does not stop by itself.
    for kind in ["wait", "stubborn"] {
        let place = Place::direct(&format!("drained_{kind}")).await;
        let nodes = [place.worker().await, place.worker().await];
        let id = place.add(job(kind, "[600, 0]")).await;
        let (drained, other) = place.doer(id, &nodes).await;
        let status = drained.terminate(SOON).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", drained.log());
        let done = place.done(id).await;
        assert_eq!(outcomes(&done), [(1, AttemptOutcome::HandedBack), (1, AttemptOutcome::Done)], "{kind}");
        assert_eq!(done.attempts[1].worker, other.name());
        assert_eq!((found_dead(other, "lock").await, found_dead(other, "beats").await), (0.0, 0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_role_does_no_jobs() {
    let place = Place::direct("gateway_only").await;
    let gateway = place.builder().env("STARLING_ROLES", "gateway").start().await.unwrap();
    let id = place.add(job("wait", "[0]")).await;
    // It has seen the job, and a worker would have begun it long since.
    until_metric(&gateway, "starling_jobs", "state=\"ready\"", 1.0).await;
    assert_eq!(place.job(id).await.state, JobState::Ready);
    let worker = place.worker().await;
    assert_eq!(place.done(id).await.attempts[0].worker, worker.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_that_was_killed_takes_its_jobs_up_again_at_once() {
    let folder = Folder::new("worker").unwrap();
    let path = folder.join("starling.db");
    let open = || SqliteJobs::new(Arc::new(SqliteDatabase::open(&path, SqliteConfig::default()).unwrap()));
    let store = open();
    store.migrate().await.unwrap();
    let id = store.enqueue(&[job("wait", "[600, 0]")]).await.unwrap()[0].job;
    // Only one process may have the file open.
    drop(store);
    let node = builder().database(&format!("sqlite://{}", path.display())).start().await.unwrap();
    until_metric(&node, "starling_jobs_running_here", "", 1.0).await;
    node.kill().await.unwrap();
    node.start_again().await.unwrap();
    until_metric(&node, "starling_job_attempts_total", "outcome=\"done\"", 1.0).await;
    assert_eq!((found_dead(&node, "lock").await, found_dead(&node, "beats").await), (1.0, 0.0));
    node.terminate(SOON).await.unwrap();
    let done = open().job(id).await.unwrap().unwrap();
    assert_eq!(outcomes(&done), [(1, AttemptOutcome::Lost), (2, AttemptOutcome::Done)]);
}

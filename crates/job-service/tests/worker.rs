//! The worker of a node: what it does with the jobs of internal queues, and how many at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_job_service::jobs::sqlite::SqliteJobs;
use starling_job_service::jobs::{
    AttemptOutcome, Backoff, ClaimedJob, JobDetails, JobId, JobState, JobStore, NewJob,
};
use starling_job_service::{
    Handler, Handlers, JobService, JobServiceParts, JobSettings, Report, Retry, Stop, StopReason, WorkerSetup,
};
use starling_testkit::wait::{until, until_true};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longer than anything takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const QUEUE: &str = "starling.test";

/// Does jobs as their kind says, and counts.
#[derive(Default)]
struct Doer {
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Lets `gated` jobs end.
    gate: Option<Semaphore>,
}

#[async_trait]
impl Handler for Doer {
    async fn run(&self, job: &ClaimedJob, mut stop: Stop) -> Report {
        self.most.fetch_max(self.under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let report = match &*job.kind {
            "echo" => Report::Done(Some(job.payload.clone())),
            "gated" => {
                if let Some(gate) = &self.gate {
                    gate.acquire().await.unwrap().forget();
                }
                Report::Done(None)
            }
            "panic" => panic!("a panic on purpose"),
            "fail" => Report::Failed { error: "no".into(), retry: Retry::After(Duration::ZERO) },
            "refuse" => Report::Failed { error: "never".into(), retry: Retry::Never },
            // Until somebody says so.
            _ => {
                assert_eq!(stop.wanted().await, StopReason::Cancelled);
                Report::HandedBack
            }
        };
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        report
    }
}

/// A node that works, over a database in memory.
struct Node {
    service: Arc<JobService>,
    store: Arc<dyn JobStore>,
    doer: Arc<Doer>,
    work: JoinHandle<()>,
}

impl Node {
    async fn start(doer: Doer, at_once: u16) -> Node {
        let database = SqliteDatabase::open(Path::new(":memory:"), SqliteConfig::default()).unwrap();
        let store: Arc<dyn JobStore> = Arc::new(SqliteJobs::new(Arc::new(database)));
        store.migrate().await.unwrap();
        let doer = Arc::new(doer);
        let kinds = ["echo", "gated", "panic", "fail", "refuse", "wait"];
        let handlers = kinds
            .into_iter()
            .fold(Handlers::default(), |handlers, kind| handlers.with(QUEUE, kind, doer.clone()));
        let service = JobService::new(JobServiceParts {
            store: store.clone(),
            settings: JobSettings { at_once, ..JobSettings::default() },
            worker: Some(WorkerSetup { node: "node".into(), handlers }),
            runtime: Handle::current(),
        });
        tokio::spawn(service.clone().watch_forever());
        let work = tokio::spawn(service.clone().work());
        Node { service, store, doer, work }
    }

    async fn add(&self, kind: &str) -> JobId {
        let backoff = Backoff { first: Duration::ZERO, max: Duration::ZERO };
        let job = NewJob { backoff, ..NewJob::new("t".into(), QUEUE, kind, "[1]".into()) };
        self.service.enqueue(job).await.unwrap().job
    }

    async fn until(&self, id: JobId, state: JobState) -> JobDetails {
        let what = format!("the job to be {state:?}");
        until(SOON, &what, async || Ok(self.store.job(id).await?.filter(|job| job.state == state)))
            .await
            .unwrap()
    }
}

fn outcomes(job: &JobDetails) -> Vec<AttemptOutcome> {
    job.attempts.iter().map(|attempt| attempt.outcome).collect()
}

#[tokio::test]
async fn a_job_is_done_as_its_handler_says() {
    let node = Node::start(Doer::default(), 4).await;
    let (echo, refuse) = (node.add("echo").await, node.add("refuse").await);
    let (fail, panic) = (node.add("fail").await, node.add("panic").await);
    let done = node.until(echo, JobState::Done).await;
    assert_eq!((done.result.as_deref(), &*done.attempts[0].worker), (Some("[1]"), "node"));
    let refused = node.until(refuse, JobState::Failed).await;
    assert_eq!(
        (outcomes(&refused), refused.attempts[0].error.as_deref()),
        (vec![AttemptOutcome::Failed], Some("never"))
    );
    for id in [fail, panic] {
        assert_eq!(outcomes(&node.until(id, JobState::Failed).await), [AttemptOutcome::Failed; 3]);
    }
    let panicked = node.store.job(panic).await.unwrap().unwrap();
    assert_eq!(panicked.attempts[0].error.as_deref(), Some("the handler panicked"));
    // The worker has survived all that.
    node.until(node.add("echo").await, JobState::Done).await;
}

#[tokio::test]
async fn only_so_many_jobs_are_done_at_once_and_all_of_them_in_the_end() {
    let node = Node::start(Doer { gate: Some(Semaphore::new(0)), ..Doer::default() }, 3).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(node.add("gated").await);
    }
    let full = async || Ok(node.doer.under_way.load(Ordering::SeqCst) == 3);
    until_true(SOON, "three jobs", full).await.unwrap();
    node.doer.gate.as_ref().unwrap().add_permits(20);
    for id in ids {
        assert_eq!(outcomes(&node.until(id, JobState::Done).await), [AttemptOutcome::Done]);
    }
    assert_eq!(node.doer.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_cancelled_job_stops() {
    let node = Node::start(Doer::default(), 4).await;
    let id = node.add("wait").await;
    node.until(id, JobState::Running).await;
    node.store.cancel(&[id]).await.unwrap();
    assert_eq!(outcomes(&node.until(id, JobState::Cancelled).await), [AttemptOutcome::Cancelled]);
}

#[tokio::test]
async fn a_job_that_nothing_here_can_do_is_left_to_others() {
    let node = Node::start(Doer::default(), 4).await;
    let id = node.add("of_a_later_version").await;
    let handed_back = async || {
        let job = node.store.job(id).await?;
        Ok(job.is_some_and(|job| job.state == JobState::Ready && !job.attempts.is_empty()))
    };
    until_true(SOON, "the job to be handed back", handed_back).await.unwrap();
    let job = node.store.job(id).await.unwrap().unwrap();
    assert_eq!((job.attempts[0].outcome, job.attempts[0].number), (AttemptOutcome::HandedBack, 1));
}

#[tokio::test]
async fn jobs_of_other_queues_are_left_alone() {
    let node = Node::start(Doer::default(), 4).await;
    let job = NewJob::new("t".into(), "mail", "echo", "1".into());
    let other = node.service.enqueue(job).await.unwrap().job;
    node.until(node.add("echo").await, JobState::Done).await;
    assert_eq!(node.store.job(other).await.unwrap().unwrap().state, JobState::Ready);
}

#[tokio::test]
async fn the_work_ends_with_a_drain() {
    let node = Node::start(Doer { gate: Some(Semaphore::new(0)), ..Doer::default() }, 4).await;
    let id = node.add("gated").await;
    node.until(id, JobState::Running).await;
    node.service.drain();
    node.service.work_ended().await;
    let job = node.store.job(id).await.unwrap().unwrap();
    assert_eq!((job.state, outcomes(&job)), (JobState::Ready, vec![AttemptOutcome::HandedBack]));
    node.work.await.unwrap();
}

#[test]
#[should_panic(expected = "mail does not begin with starling.")]
fn a_queue_of_users_has_no_handler() {
    let _ = Handlers::default().with("mail", "echo", Arc::new(Doer::default()));
}

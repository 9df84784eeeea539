//! Callers outside that share transactions: each gets its own answer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_job_service::jobs::sqlite::SqliteJobs;
use starling_job_service::jobs::{ClaimedJob, JobState, JobStore, KeyHeld, NewJob, UniqueKey};
use starling_job_service::{JobService, JobServiceParts, JobSettings, Lease, Reported, Take};
use tokio::runtime::Handle;

const QUEUE: &str = "mail";

async fn service() -> Arc<JobService> {
    let database = SqliteDatabase::open(Path::new(":memory:"), SqliteConfig::default()).unwrap();
    let store: Arc<dyn JobStore> = Arc::new(SqliteJobs::new(Arc::new(database)));
    store.migrate().await.unwrap();
    JobService::new(JobServiceParts {
        store,
        settings: JobSettings::default(),
        worker: None,
        runtime: Handle::current(),
    })
}

fn job(number: usize) -> NewJob {
    NewJob::new("t".into(), QUEUE, "k", number.to_string())
}

async fn take(service: &Arc<JobService>, worker: usize, jobs_max: u16) -> Vec<ClaimedJob> {
    let take = Take {
        tenant: "t".into(),
        queue: QUEUE.into(),
        jobs_max,
        wait: Duration::ZERO,
        lease: Duration::from_secs(600),
        // Two names, so that some workers share a claim and some don't.
        worker: format!("worker-{}", worker % 2),
    };
    service.take(take).await.unwrap()
}

async fn report(service: &Arc<JobService>, job: &ClaimedJob) -> Reported {
    let standing = service.standing(&"t".into(), job.id).await.unwrap().unwrap();
    let lease = Lease { job: job.id, generation: job.generation };
    service.done(lease, &standing, Some(job.payload.clone())).await.unwrap()
}

#[tokio::test]
async fn jobs_that_many_add_at_once_are_each_done_by_one_worker() {
    let service = service().await;
    let added = join_all((0..300).map(|number| service.enqueue(job(number)))).await;
    let ids: HashSet<_> = added.into_iter().map(|added| added.unwrap()).map(|added| added.job).collect();
    assert_eq!(ids.len(), 300);
    let mut taken = Vec::new();
    while taken.len() < 300 {
        let now = join_all((0..40).map(|worker| take(&service, worker, 1 + (worker % 3) as u16))).await;
        for (worker, jobs) in now.iter().enumerate() {
            assert!(jobs.len() <= 1 + worker % 3, "a worker got more than it asked for");
        }
        let now: Vec<ClaimedJob> = now.into_iter().flatten().collect();
        assert!(!now.is_empty(), "{} jobs were taken, and nobody gets the others", taken.len());
        taken.extend(now);
    }
    assert_eq!(taken.iter().map(|job| job.id).collect::<HashSet<_>>(), ids, "each job was taken once");
    let reported = join_all(taken.iter().map(|job| report(&service, job))).await;
    assert!(reported.iter().all(|reported| *reported == Reported::Now(JobState::Done)));
    for job in taken.iter().take(20) {
        let kept = service.job(&"t".into(), job.id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.attempts.len()), (JobState::Done, 1));
    }
}

#[tokio::test]
async fn of_jobs_with_one_key_that_are_added_at_once_one_is_there() {
    let service = service().await;
    let key = || UniqueKey { key: "once".into(), held: KeyHeld::UntilEnded };
    let jobs = (0..50).map(|number| NewJob { unique: Some(key()), ..job(number) });
    let answers = join_all(jobs.map(|job| service.enqueue(job))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let holder = answers.iter().find(|answer| answer.added).unwrap().job;
    assert_eq!(answers.iter().filter(|answer| answer.added).count(), 1);
    assert!(answers.iter().all(|answer| answer.job == holder), "all are told of the same job");
}

#[tokio::test]
async fn one_report_that_comes_several_times_at_once_gets_one_answer() {
    let service = service().await;
    let id = service.enqueue(job(1)).await.unwrap().job;
    let taken = take(&service, 0, 1).await;
    let reported = join_all((0..10).map(|_| report(&service, &taken[0]))).await;
    assert!(reported.iter().all(|reported| *reported == Reported::Now(JobState::Done)), "{reported:?}");
    let kept = service.job(&"t".into(), id).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts.len()), (JobState::Done, 1));
}

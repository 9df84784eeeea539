//! No job is lost and none is finished twice when workers, the network and the database die in turn. The controls show that the count can tell.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use starling_jobs::{
    BacklogClaim, BacklogName, Claimant, Ending, JobId, JobStore, Mark, NewJob, Outcome, WorkerId,
};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;
use tokio::time::sleep;

use crate::place::{self, SOON, builder, job};

/// How long each state lasts before the next fault.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long a fault lasts that only missing beats tell: workers are taken for dead after 3 s.
const SILENT: Duration = Duration::from_secs(6);
/// How many jobs are added at a time, and the time between batches.
const BATCH: usize = 5;
const BETWEEN_BATCHES: Duration = Duration::from_millis(100);
/// How long each attempt of a job works.
const WORK: Duration = Duration::from_millis(200);
/// Jobs that are kept: all.
const KEPT: &str = "1000000";

/// A node that works, on this database.
fn worker(redis: &Redis, url: &str) -> NodeBuilder {
    builder()
        .redis(&redis.url())
        .database(url)
        .env("STARLING_JOBS_KEPT_DONE", KEPT)
        .env("STARLING_JOBS_KEPT_FAILED", KEPT)
}

/// A job that may be begun again as often as there are faults.
fn lasting_job() -> NewJob {
    let seconds = vec![WORK.as_secs_f64(); 60];
    NewJob { attempts_max: 50, ..job("wait", &serde_json::to_string(&seconds).unwrap()) }
}

/// Adds jobs until it is told to stop. Returns their ids. A job is added again until the database has it.
async fn add_until(store: &dyn JobStore, stop: &AtomicBool) -> HashSet<JobId> {
    let mut added = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| lasting_job()).collect();
        while store.enqueue(&jobs).await.is_err() {
            sleep(BETWEEN_BATCHES).await;
        }
        added.extend(jobs.iter().map(|job| job.id));
        sleep(BETWEEN_BATCHES).await;
    }
    added
}

/// What became of jobs.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// Jobs that are not done.
    not_done: usize,
    /// Jobs that were finished more than once.
    finished_twice: usize,
    /// Jobs that another attempt finished than the one that had them.
    finished_by_others: usize,
}

const SOUND: Verdict = Verdict { not_done: 0, finished_twice: 0, finished_by_others: 0 };

async fn count(postgres: &Postgres, sql: &str) -> usize {
    postgres.psql(sql).await.unwrap().trim().parse().unwrap()
}

/// Asks the database what became of these jobs.
async fn verdict(postgres: &Postgres, added: &HashSet<JobId>) -> Verdict {
    let done = postgres.psql("SELECT job FROM job_endings WHERE state = 3").await.unwrap();
    let done: HashSet<JobId> = done.lines().filter_map(|line| JobId::parse(line.trim())).collect();
    Verdict {
        not_done: added.difference(&done).count(),
        finished_twice: count(
            postgres,
            "SELECT count(*) FROM (SELECT FROM job_attempts WHERE outcome = 0 GROUP BY job HAVING count(*) > 1) AS twice",
        )
        .await,
        // The result of these jobs is the number of the claim that they were done under.
        finished_by_others: count(
            postgres,
            "SELECT count(*) FROM job_endings e JOIN job_attempts a ON a.job = e.job AND a.outcome = 0 \
             WHERE e.result::integer <> a.generation",
        )
        .await,
    }
}

/// How many attempts were lost with their workers.
async fn lost_attempts(postgres: &Postgres) -> usize {
    count(postgres, "SELECT count(*) FROM job_attempts WHERE outcome = 2").await
}

/// Waits until no job waits or runs any more.
async fn until_all_have_ended(postgres: &Postgres) {
    let sql = "SELECT (SELECT count(*) FROM jobs) - (SELECT count(*) FROM job_endings)";
    let ended = async || Ok(postgres.psql(sql).await?.trim() == "0");
    until_true(3 * SOON, "all jobs to end", ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_lost_and_none_is_finished_twice_when_everything_dies_in_turn() {
    let (primary, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
    place::store(&primary.url()).migrate().await.unwrap();
    let standby = Postgres::standby_of(&primary).await.unwrap();
    let url = primary.url_with(&standby);
    let link = Link::to(primary.address()).await.unwrap();
    let (store, stop) = (place::store(&url), AtomicBool::new(false));
    let near = worker(&redis, &url).start().await.unwrap();
    let far = worker(&redis, &link.through(&primary.url())).start().await.unwrap();
    let faults = async {
        sleep(BETWEEN).await;
        near.kill().await.unwrap();
        sleep(BETWEEN).await;
        near.start_again().await.unwrap();
        // Frozen, for longer than it is believed to be alive.
        near.stop().unwrap();
        sleep(SILENT).await;
        near.resume().unwrap();
        sleep(BETWEEN).await;
        // A network that carries nothing; what it held back arrives late.
        link.pause();
        sleep(SILENT).await;
        link.resume();
        sleep(BETWEEN).await;
        link.cut();
        sleep(BETWEEN).await;
        primary.crash().await.unwrap();
        primary.start_again().await.unwrap();
        sleep(BETWEEN).await;
        // The database is away for longer than a worker may be silent.
        primary.stop().await.unwrap();
        sleep(SILENT).await;
        primary.start_again().await.unwrap();
        sleep(BETWEEN).await;
        // A worker that is told to end hands its jobs back.
        let status = far.terminate(SOON).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", far.log());
        far.start_again().await.unwrap();
        sleep(BETWEEN).await;
        // All workers at once.
        let (one, other) = tokio::join!(near.kill(), far.kill());
        one.and(other).unwrap();
        near.start_again().await.unwrap();
        far.start_again().await.unwrap();
        sleep(BETWEEN).await;
        // Failover: the standby has all that was committed.
        primary.crash().await.unwrap();
        standby.promote().await.unwrap();
        link.retarget(standby.address());
        link.cut();
        sleep(BETWEEN).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (added, ()) = tokio::join!(add_until(&store, &stop), faults);
    until_all_have_ended(&standby).await;
    let (verdict, lost) = (verdict(&standby, &added).await, lost_attempts(&standby).await);
    println!("{} jobs, {lost} attempts were lost with their workers, {verdict:?}", added.len());
    assert_eq!(verdict, SOUND);
    assert!(added.len() > 500 && lost > 0, "{} jobs and {lost} lost attempts show little", added.len());
}

/// Replaces a function of the database by its definition with a defect.
async fn replace_function(postgres: &Postgres, name: &str, defect: impl Fn(&str) -> String) {
    let sound = postgres.psql(&format!("SELECT pg_get_functiondef('{name}'::regproc)")).await.unwrap();
    let defective = defect(&sound);
    assert_ne!(defective, sound);
    postgres.psql(&defective).await.unwrap();
}

/// Jobs that run on a worker. The first attempt of each takes 2 s, and the second one 8 s.
async fn jobs_of(store: &dyn JobStore, node: &Node) -> HashSet<JobId> {
    let jobs: Vec<NewJob> = (0..4).map(|_| job("wait", "[2, 8, 0, 0, 0]")).collect();
    store.enqueue(&jobs).await.unwrap();
    let run = async || Ok(node.metric("starling_jobs_running_here", "").await? == 4.0);
    until_true(SOON, "the jobs to run", run).await.unwrap();
    jobs.iter().map(|job| job.id).collect()
}

/// Takes jobs with a short lease, and finishes them when a node has them. Returns what became of the jobs.
async fn finish_what_another_has(has_fence: bool) -> Verdict {
    let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
    let store = place::store(&postgres.url());
    store.migrate().await.unwrap();
    if !has_fence {
        let fence = "r.generation = g.generation AND";
        replace_function(&postgres, "starling_jobs_finish_6", |sound| sound.replace(fence, "")).await;
    }
    let jobs: Vec<NewJob> = (0..4).map(|_| job("wait", "[600, 5, 0]")).collect();
    store.enqueue(&jobs).await.unwrap();
    let late = WorkerId::new();
    store.register(late, "late").await.unwrap();
    let claimant = Claimant { worker: late, name: "late".into(), lease: Some(Duration::from_millis(10)) };
    let backlog = BacklogName {
        queue: jobs[0].queue.clone(),
        tenant: jobs[0].tenant.clone(),
        priority: jobs[0].priority,
    };
    let claim = BacklogClaim { backlog, mark: Mark::default(), limit: 4 };
    let claimed = store.claim(&claimant, &[claim]).await.unwrap().jobs;
    assert_eq!(claimed.len(), 4);
    let node = worker(&redis, &postgres.url()).start().await.unwrap();
    let has_them = async || Ok(node.metric("starling_jobs_running_here", "").await? == 4.0);
    until_true(SOON, "the node to have the jobs", has_them).await.unwrap();
    let endings: Vec<Ending> = claimed
        .iter()
        .map(|job| Ending {
            job: job.id,
            generation: job.generation,
            outcome: Outcome::Done(Some(job.generation.to_string())),
        })
        .collect();
    store.finish(&endings).await.unwrap();
    until_all_have_ended(&postgres).await;
    verdict(&postgres, &jobs.iter().map(|job| job.id).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_a_late_worker_finishes_what_another_has_and_the_count_tells() {
    assert_eq!(finish_what_another_has(true).await, SOUND);
    let verdict = finish_what_another_has(false).await;
    println!("without the fence: {verdict:?}");
    assert_eq!(verdict.finished_by_others, 4, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_detection_the_jobs_of_a_killed_worker_are_never_done_and_the_count_tells() {
    let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
    let store = place::store(&postgres.url());
    store.migrate().await.unwrap();
    for name in ["starling_jobs_bury_silent_6", "starling_jobs_bury_unlocked_6"] {
        replace_function(&postgres, name, |sound| sound.replace("WHERE w.", "WHERE false AND w.")).await;
    }
    let killed = worker(&redis, &postgres.url()).start().await.unwrap();
    let added = jobs_of(&store, &killed).await;
    killed.kill().await.unwrap();
    let other = worker(&redis, &postgres.url()).start().await.unwrap();
    // With detection, these jobs would be begun again before so many others are done one after the other.
    for _ in 0..10 {
        let id = store.enqueue(&[job("wait", "[1]")]).await.unwrap()[0].job;
        let done = async || Ok(store.job(id).await?.is_some_and(|job| job.result.is_some()));
        until_true(SOON, "a job of the other worker", done).await.unwrap();
    }
    let verdict = verdict(&postgres, &added).await;
    println!("without detection: {verdict:?}");
    assert_eq!(verdict.not_done, added.len(), "{}", other.log());
}

//! A tenant with a large backlog does not keep another one waiting.

use std::time::Duration;

use starling_jobs::{JobStore, NewJob};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;

use crate::place::{self, SOON, builder, job};

/// Jobs of the tenant with the backlog.
const BACKLOG: usize = 100_000;
/// How many of them are added at a time.
const BATCH: usize = 250;
/// Jobs of the other tenant, one after the other.
const PROBES: usize = 40;
/// How many jobs of the backlog may begin between the moment when a probe is added and the moment when it begins. Nobody tells the node of
/// a probe, so that it is found within a second. In turn, it would begin after all jobs that are left.
const AHEAD_MAX: usize = BACKLOG / 10;
/// Jobs that are kept: all.
const KEPT: &str = "1000000";

/// Adds the backlog, whose jobs take no time.
async fn add_backlog(store: &dyn JobStore) {
    let one = || NewJob { tenant: "large".into(), ..job("wait", "[0]") };
    for _ in 0..BACKLOG / BATCH {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| one()).collect();
        store.enqueue(&jobs).await.unwrap();
    }
}

/// Adds jobs of a tenant, each when the one before is done.
async fn probe(store: &dyn JobStore, tenant: &str) {
    for _ in 0..PROBES {
        let probe = NewJob { tenant: tenant.into(), ..job("wait", "[0]") };
        let id = store.enqueue(&[probe]).await.unwrap()[0].job;
        let done = async || Ok(store.job(id).await?.is_some_and(|job| job.result.is_some()));
        until_true(SOON, "a probe to be done", done).await.unwrap();
    }
}

/// How many jobs of the backlog began while each probe of a tenant waited, the most, and how long 95 % of the probes waited at most.
async fn waited(postgres: &Postgres, tenant: &str) -> (usize, Duration) {
    let sql = format!(
        "SELECT max((SELECT count(*) FROM job_attempts b JOIN jobs l ON l.id = b.job
                     WHERE l.tenant = 'large' AND b.started_at > j.created_at AND b.started_at < a.started_at)),
                percentile_disc(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM a.started_at - j.created_at) * 1000)
         FROM jobs j JOIN job_attempts a ON a.job = j.id WHERE j.tenant = '{tenant}'"
    );
    let row = postgres.psql(&sql).await.unwrap();
    let (ahead, milliseconds) = row.trim().split_once('|').unwrap();
    (ahead.parse().unwrap(), Duration::from_secs_f64(milliseconds.parse::<f64>().unwrap() / 1000.0))
}

/// How many jobs of the backlog have begun.
async fn begun(node: &Node) -> f64 {
    node.metric("starling_job_attempts_total", "outcome=\"done\"").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes a minute of processor time; docs/guarantees.md has the command"]
async fn a_hundred_thousand_jobs_of_one_tenant_do_not_keep_another_one_waiting() {
    let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
    let store = place::store(&postgres.url());
    store.migrate().await.unwrap();
    let node = builder().redis(&redis.url()).database(&postgres.url()).env("STARLING_JOBS_KEPT_DONE", KEPT);
    let node = node.start().await.unwrap();
    probe(&store, "idle").await;
    // The node begins when all is there.
    store.pause(&"large".into(), "starling.test", true).await.unwrap();
    add_backlog(&store).await;
    store.pause(&"large".into(), "starling.test", false).await.unwrap();
    let before = begun(&node).await;
    let works_on_it = async || Ok(begun(&node).await > before);
    until_true(SOON, "the node to work on the backlog", works_on_it).await.unwrap();
    probe(&store, "small").await;
    let left = postgres.psql("SELECT count(*) FROM job_ready WHERE tenant = 'large'").await.unwrap();
    let (_, idle) = waited(&postgres, "idle").await;
    let (ahead, beside) = waited(&postgres, "small").await;
    println!(
        "95 % of the jobs waited {idle:?} idle, {beside:?} beside a backlog of {BACKLOG}, {} left; at most {ahead} of it began meanwhile",
        left.trim()
    );
    assert_ne!(left.trim(), "0", "the backlog was too short");
    assert!(ahead <= AHEAD_MAX, "{ahead} jobs of the backlog began before a job of another tenant");
    // The control: a job of the same tenant waits for those before it, and the count would tell.
    let late = NewJob { tenant: "large".into(), ..job("wait", "[0]") };
    let late = store.enqueue(&[late]).await.unwrap()[0].job;
    let enough = begun(&node).await + f64::from(u32::try_from(2 * ahead.max(1_000)).unwrap());
    let has_gone_on = async || Ok(begun(&node).await > enough);
    until_true(SOON, "the node to go on", has_gone_on).await.unwrap();
    assert!(store.job(late).await.unwrap().unwrap().attempts.is_empty(), "a late job was early");
}

//! Claims while another session holds an old snapshot: so many jobs a second are added, claimed and finished, as a node does it, and each call is
//! timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use starling_job_service::JobService;
use starling_jobs::{Backlogs, Claimant, Ending, JobStore, Mark, NewJob, Outcome, WorkerId};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_postgres::NoTls;

use crate::worker::{service, store};
use crate::{Marks, Plan};

const QUEUE: &str = "bench";
/// The most jobs that a claim gives.
const CLAIM_MAX: u16 = 10;
/// How long the worker rests when nothing is ready.
const REST: Duration = Duration::from_millis(2);
/// A lease that outlasts any stall.
const LEASE: Duration = Duration::from_secs(600);

/// Times of calls in milliseconds, since they were last taken.
#[derive(Default)]
struct Times {
    claims: Vec<f64>,
    looks: Vec<f64>,
    finishes: Vec<f64>,
    adds: Vec<f64>,
    begun: Vec<f64>,
    jobs: u64,
}

/// Runs before, while and after the snapshot is held, and prints what was measured of each slice.
pub async fn held(plan: &Plan, marks: &mut Marks) -> Result<()> {
    let held = plan.held.clone().context("the plan does not say how long")?;
    let store = store(&plan.url)?;
    store.migrate().await?;
    let times = Arc::new(Mutex::new(Times::default()));
    let upkeep = service(&store, None, plan.at_once);
    let stopped = Arc::new(AtomicBool::new(false));
    let tasks = [
        tokio::spawn(Arc::clone(&upkeep).keep_time_forever()),
        tokio::spawn(Arc::clone(&upkeep).keep_counts_forever()),
    ];
    let adders = tokio::spawn(add(upkeep, plan.clone(), Arc::clone(&times), Arc::clone(&stopped)));
    let worker = tokio::spawn(work(store, Arc::clone(&times), Arc::clone(&stopped)));
    let watch = async {
        slices("warm-up", held.warm_seconds, &held, &times, marks).await?;
        slices("before", held.before_seconds, &held, &times, marks).await?;
        let (client, connection) = tokio_postgres::connect(&plan.url, NoTls).await?;
        let connection = tokio::spawn(connection);
        // The snapshot is taken by the first statement.
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM job_counts")
            .await?;
        slices("during", held.hold_seconds, &held, &times, marks).await?;
        client.batch_execute("COMMIT").await?;
        drop(client);
        connection.await.context("the session that held the snapshot")??;
        slices("after", held.after_seconds, &held, &times, marks).await
    };
    watch.await?;
    stopped.store(true, Ordering::Relaxed);
    adders.await.context("adding jobs")??;
    let left = worker.await.context("doing jobs")??;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    marks.say("settled", json!({"lost": left, "doubled": 0})).await
}

/// Prints the slices of a phase: a minute each, ten seconds in the phase after.
async fn slices(
    phase: &str,
    seconds: f64,
    held: &crate::Held,
    times: &Mutex<Times>,
    marks: &mut Marks,
) -> Result<()> {
    let slice = if phase == "after" { held.after_slice_seconds } else { held.slice_seconds };
    let start = Instant::now();
    let mut passed = 0.0;
    while passed < seconds {
        let next = (passed + slice).min(seconds);
        sleep_until((start + Duration::from_secs_f64(next)).into()).await;
        let taken = std::mem::take(&mut *times.lock());
        let line = json!({
            "phase": phase,
            "from_seconds": passed,
            "to_seconds": next,
            "jobs": taken.jobs,
            "claim": figures(taken.claims),
            "look": figures(taken.looks),
            "finish": figures(taken.finishes),
            "add": figures(taken.adds),
            "begun": figures(taken.begun),
        });
        marks.say("slice", line).await?;
        passed = next;
    }
    Ok(())
}

fn figures(mut times: Vec<f64>) -> Value {
    times.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    json!({"count": times.len(), "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100)})
}

/// Adds jobs at the plan's rate, several at once if a call takes long.
async fn add(
    service: Arc<JobService>,
    plan: Plan,
    times: Arc<Mutex<Times>>,
    stopped: Arc<AtomicBool>,
) -> Result<()> {
    let places = Arc::new(tokio::sync::Semaphore::new(plan.adders));
    let mut ticks = interval(Duration::from_secs_f64(1.0 / plan.rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let filler = "x".repeat(plan.payload_bytes.saturating_sub(40));
    while !stopped.load(Ordering::Relaxed) {
        ticks.tick().await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let (service, times) = (Arc::clone(&service), Arc::clone(&times));
        let payload = json!({"filler": filler}).to_string();
        tokio::spawn(async move {
            let start = Instant::now();
            if let Err(error) = service.enqueue(NewJob::new("default".into(), QUEUE, "bench", payload)).await
            {
                eprintln!("a job could not be added: {error}");
            }
            times.lock().adds.push(ms(start));
            drop(place);
        });
    }
    // All that were begun have ended.
    let all = u32::try_from(plan.adders).unwrap_or(u32::MAX);
    places.acquire_many(all).await.map(drop).context("wait for the last jobs")
}

/// Looks for jobs, claims and finishes them, as a node does it. Returns the jobs that are left at the end.
async fn work(store: Arc<dyn JobStore>, times: Arc<Mutex<Times>>, stopped: Arc<AtomicBool>) -> Result<usize> {
    let claimant = Claimant { worker: WorkerId::new(), name: "bench".into(), lease: Some(LEASE) };
    let (mut mark, mut backlogs) = (Mark::default(), Backlogs::default());
    loop {
        let ending = stopped.load(Ordering::Relaxed);
        let start = Instant::now();
        let arrivals = store.arrivals(mark).await?;
        mark = arrivals.mark;
        backlogs.note(arrivals);
        times.lock().looks.push(ms(start));
        let plan = backlogs.plan(backlogs.queues(), CLAIM_MAX, now_ms()?, |_, _| true);
        let planned = backlogs.moment();
        if plan.is_empty() {
            if ending {
                return Ok(backlogs.ready_since().count());
            }
            tokio::time::sleep(REST).await;
            continue;
        }
        let start = Instant::now();
        let claimed = store.claim(&claimant, &plan).await?;
        let took_ms = ms(start);
        let now_ms = now_ms()?;
        backlogs.claimed(&plan, &claimed, now_ms, planned);
        let waits = claimed.jobs.iter().map(|job| (now_ms - job.ready_at_ms) as f64);
        {
            let mut times = times.lock();
            times.claims.push(took_ms);
            times.begun.extend(waits);
            times.jobs += claimed.jobs.len() as u64;
        }
        let endings: Vec<Ending> = claimed
            .jobs
            .iter()
            .map(|job| Ending { job: job.id, generation: job.generation, outcome: Outcome::Done(None) })
            .collect();
        let start = Instant::now();
        store.finish(&endings).await?;
        times.lock().finishes.push(ms(start));
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds since 1970.
fn now_ms() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

//! What is measured, as in `loadtest/peers/jobs/scenarios.mjs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until};

use crate::ledger::Ledger;
use crate::worker::Worker;
use crate::{Marks, Plan};

/// Jobs that are added before the time that counts.
const WARM_UP: u64 = 200;
/// How long jobs may be under way at the end.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(1);

/// So many jobs a second, while the worker mostly waits.
pub async fn idle(plan: &Plan, worker: &Worker, ledger: &Ledger, marks: &mut Marks) -> Result<()> {
    warm_up(worker, ledger).await?;
    marks.say("begin", json!({})).await?;
    ledger.restart();
    let (before, start) = (ledger.begun(), Instant::now());
    let count = (plan.rate * plan.seconds).round() as u32;
    for job in 0..count {
        sleep_until((start + Duration::from_secs_f64(f64::from(job) / plan.rate)).into()).await;
        worker.add().await?;
    }
    settle(ledger).await;
    marks.say("end", ledger.outcome(ledger.begun() - before, start)).await
}

/// Jobs that wait already.
pub async fn drain(plan: &Plan, worker: &Worker, ledger: &Ledger, marks: &mut Marks) -> Result<()> {
    warm_up(worker, ledger).await?;
    worker.pause().await;
    marks.say("adding", json!({})).await?;
    let start = Instant::now();
    add(worker, ledger, plan.jobs, plan.adders).await?;
    marks.say("added", ledger.outcome(plan.jobs, start)).await?;
    ledger.restart();
    let before = ledger.begun();
    marks.say("begin", json!({})).await?;
    let start = Instant::now();
    worker.work();
    settle(ledger).await;
    let outcome: Value = ledger.outcome(ledger.begun() - before, start);
    worker.pause().await;
    marks.say("end", outcome).await
}

/// Jobs that are added while others are done.
pub async fn steady(plan: &Plan, worker: &Worker, ledger: &Ledger, marks: &mut Marks) -> Result<()> {
    warm_up(worker, ledger).await?;
    let stopped = AtomicBool::new(false);
    let adder = || async {
        while !stopped.load(Ordering::Relaxed) {
            if ledger.open() < plan.outstanding {
                worker.add().await?;
            } else {
                sleep(STEP).await;
            }
        }
        anyhow::Ok(())
    };
    let measure = async {
        sleep(Duration::from_secs(1)).await;
        marks.say("begin", json!({})).await?;
        ledger.restart();
        let (before, start) = (ledger.begun(), Instant::now());
        sleep(Duration::from_secs_f64(plan.seconds)).await;
        let outcome = ledger.outcome(ledger.begun() - before, start);
        marks.say("end", outcome).await?;
        stopped.store(true, Ordering::Relaxed);
        Ok(())
    };
    tokio::try_join!(together((0..plan.adders).map(|_| adder())), measure)?;
    settle(ledger).await;
    Ok(())
}

async fn warm_up(worker: &Worker, ledger: &Ledger) -> Result<()> {
    worker.work();
    add(worker, ledger, WARM_UP, 16).await?;
    settle(ledger).await;
    Ok(())
}

/// Adds jobs one by one, so many at a time.
async fn add(worker: &Worker, ledger: &Ledger, count: u64, at_once: usize) -> Result<()> {
    let end = ledger.added() + count;
    let adder = || async {
        while ledger.added() < end {
            worker.add().await?;
        }
        Ok(())
    };
    together((0..at_once).map(|_| adder())).await
}

async fn together(futures: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    futures_util::future::try_join_all(futures).await.map(drop)
}

/// Waits until all jobs were begun.
async fn settle(ledger: &Ledger) {
    let start = Instant::now();
    while ledger.open() > 0 && start.elapsed() < SETTLE_MAX {
        sleep(STEP).await;
    }
}

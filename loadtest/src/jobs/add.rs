//! Adds jobs: when they are due, or as many as are finished.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::caller::Caller;
use super::run::Run;
use crate::run::Pace;

/// Due jobs that wait for a connection. Beyond that the generator is late, which the report says.
const WAITING_MAX: usize = 10_000;
/// The pause after a refusal, when the loop is closed.
const PAUSE: Duration = Duration::from_millis(100);

/// Adds jobs until the stages end. Returns when all are answered.
pub(super) async fn add(run: Arc<Run>) {
    let (due, received) = mpsc::channel(WAITING_MAX);
    let received = Arc::new(Mutex::new(received));
    let jobs = &run.plan.scenario().jobs;
    let adders: Vec<_> = (0..jobs.adders)
        .map(|adder| {
            // Workers have the first places.
            let caller = Caller::new(run.plan.target(), jobs.workers + adder);
            if jobs.outstanding > 0 {
                tokio::spawn(add_as_finished(Arc::clone(&run), caller))
            } else {
                tokio::spawn(add_when_due(Arc::clone(&run), caller, Arc::clone(&received)))
            }
        })
        .collect();
    if jobs.outstanding == 0 {
        tell_due(&run, due).await;
    }
    for adder in adders {
        // A panic has been reported by the runtime, and its jobs are missing in the counts.
        let _ = adder.await;
    }
}

/// Passes on the times at which jobs are due.
async fn tell_due(run: &Run, due: mpsc::Sender<Instant>) {
    let Ok(pace) = Pace::start() else { return };
    let mut begins = run.start;
    for stage in &run.plan.scenario().stages {
        let ends = begins + Duration::from_secs(stage.seconds.into());
        let every = Duration::from_secs_f64(1.0 / stage.jobs_per_second.max(1e-6));
        let mut next = if stage.jobs_per_second > 0.0 { begins } else { ends };
        while next < ends {
            pace.until(next).await;
            if run.is_stopped() || due.send(next).await.is_err() {
                return;
            }
            next += every;
        }
        // The next stage begins when this one ends, even if that has nothing to add.
        tokio::select! {
            () = pace.until(ends) => {}
            () = run.stop_wanted() => return,
        }
        begins = ends;
    }
}

async fn add_when_due(run: Arc<Run>, mut caller: Caller, due: Arc<Mutex<mpsc::Receiver<Instant>>>) {
    loop {
        let next = due.lock().await.recv().await;
        let Some(next) = next else { return };
        run.measure(|meter| meter.lateness.record_duration(next.elapsed()));
        if !add_one(&run, &mut caller, next).await {
            return;
        }
    }
}

async fn add_as_finished(run: Arc<Run>, mut caller: Caller) {
    while !run.stages_have_ended() {
        let permit = tokio::select! {
            permit = run.places.acquire() => permit,
            () = run.stages_end() => return,
        };
        let Ok(permit) = permit else { return };
        // The worker that finishes the job gives it back.
        permit.forget();
        let before = run.meter_errors();
        if !add_one(&run, &mut caller, Instant::now()).await {
            return;
        }
        if run.meter_errors() > before {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Adds a job. Returns whether there may be more.
async fn add_one(run: &Run, caller: &mut Caller, due: Instant) -> bool {
    let Some(number) = run.ledger.next() else { return false };
    run.measure(|meter| meter.counts.sent += 1);
    let body = json!({"queue": run.queue(), "payload": run.payload(number, due)});
    match caller.post("/v1/jobs", &body).await {
        Ok(_) => {
            run.ledger.acknowledge(number);
            run.measure(|meter| {
                meter.counts.added += 1;
                meter.add.record_duration(due.elapsed());
            });
        }
        Err(error) => {
            run.measure(|meter| meter.error(error.name()));
            // Nobody will finish it, or nobody knows.
            run.places.add_permits(1);
        }
    }
    true
}

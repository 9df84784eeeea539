//! A worker: takes jobs, does them, and says so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::caller::{CallError, Caller};
use super::run::Run;

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a report is tried: longer than a lease lasts.
const REPORTS_MAX: usize = 200;

/// Works until it is dropped.
pub(super) async fn work(run: Arc<Run>, place: usize) {
    let jobs = &run.plan.scenario().jobs;
    let mut taker = Caller::new(run.plan.target(), place);
    let reporters: Vec<Mutex<Caller>> =
        (0..jobs.take_max).map(|_| Mutex::new(Caller::new(run.plan.target(), place))).collect();
    let path = format!("/v1/queues/{}/take", run.queue());
    let wanted = json!({"max": jobs.take_max, "wait_seconds": 30, "lease_seconds": 30});
    loop {
        match taker.post(&path, &wanted).await {
            Ok(answer) => {
                let taken = answer["jobs"].as_array().map_or(&[][..], Vec::as_slice);
                for job in taken {
                    note_start(&run, job);
                }
                join_all(taken.iter().zip(&reporters).map(|(job, reporter)| finish(&run, reporter, job)))
                    .await;
            }
            Err(error) => {
                run.measure(|meter| meter.error(error.name()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn note_start(run: &Run, job: &Value) {
    let due = run.due_of(&job["payload"]);
    run.measure(|meter| {
        meter.counts.begun += 1;
        // Another attempt has waited for the end of a lease, which is not the time to start.
        if job["attempt"] == 1
            && let Some((_, due)) = due
        {
            meter.start.record_duration(due.elapsed());
        }
    });
}

/// Does a job and reports it, again if there is no answer: the same report twice is harmless.
async fn finish(run: &Run, reporter: &Mutex<Caller>, job: &Value) {
    let (Some(id), Some(lease)) = (job["job"].as_str(), job["lease"].as_str()) else {
        return run.measure(|meter| meter.error("a job without id or lease"));
    };
    let Some((number, due)) = run.due_of(&job["payload"]) else {
        return run.measure(|meter| meter.error("a payload that was not sent"));
    };
    let work_ms = run.plan.scenario().jobs.work_ms;
    if work_ms > 0 {
        tokio::time::sleep(Duration::from_millis(work_ms.into())).await;
    }
    let (path, report) = (format!("/v1/jobs/{id}/done"), json!({"lease": lease}));
    let mut reporter = reporter.lock().await;
    for _ in 0..REPORTS_MAX {
        let reported = reporter.post(&path, &report).await;
        match &reported {
            Ok(_) => {
                let is_first = run.ledger.finish(number);
                run.measure(|meter| {
                    if is_first {
                        meter.counts.finished += 1;
                        meter.finish.record_duration(due.elapsed());
                    }
                });
                if is_first {
                    run.places.add_permits(1);
                }
                return;
            }
            Err(error) => run.measure(|meter| meter.error(error.name())),
        }
        if !reported.as_ref().is_err_and(CallError::may_pass) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

//! Jobs that only tests have: what a node's worker does with them shows how it deals with faults.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_job_service::jobs::ClaimedJob;
use starling_job_service::{Handler, Handlers, Report, Stop};

/// The queue of these jobs.
const QUEUE: &str = "starling.test";

/// Adds the handlers of these jobs.
pub fn add(handlers: Handlers) -> Handlers {
    handlers.with(QUEUE, "wait", Arc::new(Wait { stops: true })).with(
        QUEUE,
        "stubborn",
        Arc::new(Wait { stops: false }),
    )
}

/// Waits. The payload is a list of seconds, one for each claim of the job. The result is the number of the claim.
struct Wait {
    /// Whether it hands the job back when it shall stop.
    stops: bool,
}

#[async_trait]
impl Handler for Wait {
    async fn run(&self, job: &ClaimedJob, mut stop: Stop) -> Report {
        let seconds: Vec<f64> = serde_json::from_str(&job.payload).expect("a list of numbers");
        let claim = usize::try_from(job.generation).expect("a positive number");
        let wait = tokio::time::sleep(Duration::from_secs_f64(seconds[claim - 1]));
        let stopped = async {
            stop.wanted().await;
            if !self.stops {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = wait => Report::Done(Some(claim.to_string())),
            () = stopped => Report::HandedBack,
        }
    }
}

//! The jobs that a node's worker is doing.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use starling_jobs::{ClaimedJob, Ending, JobId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::handler::{Handler, Report, Retry, Stop, StopReason, StopSender};
use super::handlers::Crew;
use crate::metrics::METRICS;

/// How long a handler may go on after it was told to stop.
const STOP_MAX: Duration = Duration::from_secs(2);

/// An attempt that has ended, of which the database does not know yet.
pub(super) struct Ended {
    pub ending: Ending,
    /// The job's queue.
    pub queue: String,
    pub took: Duration,
    /// Whose place it took.
    pub crew: Crew,
}

/// The jobs that are under way.
pub(super) struct Running {
    tasks: JoinSet<Ended>,
    /// How many jobs of each crew are under way. Crews without one are left out.
    busy: HashMap<Crew, usize>,
    stops: Stops,
}

impl Running {
    pub fn new(stops: Stops) -> Self {
        Self { tasks: JoinSet::new(), busy: HashMap::new(), stops }
    }

    /// Returns the number of jobs.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns the number of jobs of a crew.
    pub fn busy(&self, crew: Crew) -> usize {
        self.busy.get(&crew).copied().unwrap_or_default()
    }

    /// Tells all handlers to stop.
    pub fn stop_all(&self, reason: StopReason) {
        self.stops.0.lock().values().for_each(|sender| tell(sender, reason));
    }

    /// Begins a job.
    pub fn begin(&mut self, crew: Crew, handler: Option<Arc<dyn Handler>>, job: ClaimedJob) {
        let (sender, stop) = Stop::new();
        let (attempt, stops) = ((job.id, job.generation), self.stops.clone());
        stops.0.lock().insert(attempt, sender);
        METRICS.running_here.increment(1.0);
        *self.busy.entry(crew).or_default() += 1;
        self.tasks.spawn(async move {
            let _counted = Counted { stops, attempt };
            let began = Instant::now();
            let report = match handler {
                Some(handler) => run(&*handler, &job, stop.clone()).await,
                // A node of a later version may have added it.
                None => Report::HandedBack,
            };
            let outcome = report.outcome(&job, stop.reason(), rand::random());
            Ended {
                ending: Ending { job: job.id, generation: job.generation, outcome },
                queue: job.backlog.queue,
                took: began.elapsed(),
                crew,
            }
        });
    }

    /// Waits for the end of any job. Returns `None` if none is under way.
    pub async fn next(&mut self) -> Option<Ended> {
        // A task can't fail: it catches panics, and it is aborted only with all others.
        let ended = self.tasks.join_next().await?.ok()?;
        Some(self.note(ended))
    }

    /// Returns a job that has ended already.
    pub fn try_next(&mut self) -> Option<Ended> {
        let ended = self.tasks.try_join_next()?.ok()?;
        Some(self.note(ended))
    }

    /// Records the end of an attempt.
    fn note(&mut self, ended: Ended) -> Ended {
        if let Some(busy) = self.busy.get_mut(&ended.crew) {
            *busy = busy.saturating_sub(1);
        }
        ended
    }
}

/// Lets a handler work until it has finished, or for a while after it was told to stop.
async fn run(handler: &dyn Handler, job: &ClaimedJob, mut stop: Stop) -> Report {
    let work = AssertUnwindSafe(handler.run(job, stop.clone())).catch_unwind();
    let late = async {
        stop.wanted().await;
        sleep(STOP_MAX).await;
    };
    tokio::select! {
        report = work => report.unwrap_or_else(|_| {
            tracing::error!(queue = job.backlog.queue, kind = job.kind, job = %job.id, "the handler of a job panicked");
            Report::Failed { error: "the handler panicked".into(), retry: Retry::Backoff }
        }),
        () = late => Report::HandedBack,
    }
}

/// Tells running handlers to stop.
#[derive(Clone, Default)]
pub(super) struct Stops(Arc<Mutex<HashMap<(JobId, i32), StopSender>>>);

impl Stops {
    /// Tells the handler of one attempt. The first reason counts.
    pub fn stop(&self, attempt: (JobId, i32), reason: StopReason) {
        if let Some(sender) = self.0.lock().get(&attempt) {
            tell(sender, reason);
        }
    }
}

fn tell(sender: &StopSender, reason: StopReason) {
    sender.send_if_modified(|told| {
        let is_new = told.is_none();
        told.get_or_insert(reason);
        is_new
    });
}

/// Counts a job as running until it is dropped, with the job's task.
struct Counted {
    stops: Stops,
    attempt: (JobId, i32),
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.running_here.decrement(1.0);
        self.stops.0.lock().remove(&self.attempt);
    }
}

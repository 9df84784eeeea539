//! A run: those who add jobs and those who do them, what they share, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::caller::Caller;
use super::ledger::Ledger;
use super::meter::{JobMeter, JobSeries};
use super::{JobScenario, add, work};
use crate::measure::{Observation, Observer};
use crate::run::Target;

/// How long a run waits for open jobs after the last one was finished: longer than a lease lasts. What is open then is lost.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How often it looks at the open jobs.
const SETTLE_STEP: Duration = Duration::from_millis(20);

/// What runs, and where.
#[derive(Debug)]
pub struct JobPlan {
    scenario: JobScenario,
    target: Arc<Target>,
    queue: String,
    threads: usize,
    keep: bool,
    stopped: watch::Sender<bool>,
}

/// What all tasks of a run share.
pub(super) struct Run {
    pub plan: Arc<JobPlan>,
    pub start: Instant,
    pub ledger: Ledger,
    /// When the loop is closed: jobs that may be added now.
    pub places: Semaphore,
    series: Mutex<JobSeries>,
    errors: AtomicU64,
}

impl JobPlan {
    /// A run of this scenario, in a queue that is named after `run`. With `keep` the jobs that are done stay.
    ///
    /// # Errors
    /// When there are fewer tokens than connections.
    pub fn new(
        scenario: JobScenario,
        target: Target,
        run: &str,
        threads: usize,
        keep: bool,
    ) -> Result<Arc<Self>> {
        target.check(scenario.jobs.workers + scenario.jobs.adders)?;
        let queue = format!("lt-{run}");
        let stopped = watch::channel(false).0;
        Ok(Arc::new(Self { scenario, target: Arc::new(target), queue, threads, keep, stopped }))
    }

    /// The scenario.
    pub fn scenario(&self) -> &JobScenario {
        &self.scenario
    }

    /// Where the load goes.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Ends the run early. Open jobs are still done and counted.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether what is measured in this second counts for the criteria.
    pub fn is_measured(&self, second: u32) -> bool {
        let stage = self.scenario.stage_at(Duration::from_secs(second.into()));
        self.scenario.stages.get(stage).is_some_and(|stage| stage.measured)
    }
}

/// Runs the plan to its end.
///
/// # Errors
/// When a thread can't be started.
pub fn run(plan: &Arc<JobPlan>, observer: Observer) -> Result<JobSeries> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.threads)
        .enable_all()
        .build()
        .context("start the threads")?;
    let (observations, observed) = std::sync::mpsc::sync_channel(1024);
    let start = Instant::now();
    // It ends at its first observation after the receiver is gone.
    std::thread::Builder::new().name("observer".into()).spawn(move || observer.run(start, &observations))?;
    let run = Arc::new(Run::new(plan, start));
    runtime.block_on(async {
        let seconds = tokio::spawn(note_seconds(Arc::clone(&run), observed));
        let workers: Vec<_> = (0..plan.scenario.jobs.workers)
            .map(|place| tokio::spawn(work::work(Arc::clone(&run), place)))
            .collect();
        add::add(Arc::clone(&run)).await;
        run.settle().await;
        workers.iter().for_each(tokio::task::JoinHandle::abort);
        run.clean_up().await;
        seconds.abort();
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    run.result()
}

/// Notes each second how busy the generator is, and what the servers use.
async fn note_seconds(run: Arc<Run>, observed: std::sync::mpsc::Receiver<(u32, String, Observation)>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let (mut since, mut used) = (Instant::now(), used_seconds());
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (now, uses) = (Instant::now(), used_seconds());
        let passed = (now - since).as_secs_f64();
        let busy = if passed > 0.1 { (uses - used) / passed / run.plan.threads as f64 } else { 0.0 };
        (since, used) = (now, uses);
        let mut series = run.series.lock();
        // The second that has just ended.
        let number = run.second().saturating_sub(1);
        series.seconds.entry(number).or_default().busy = busy;
        while let Ok((second, name, observation)) = observed.try_recv() {
            series.observed.0.entry(name).or_default().insert(second, observation);
        }
    }
}

/// The processor time that this process has used.
fn used_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

impl Run {
    fn new(plan: &Arc<JobPlan>, start: Instant) -> Self {
        Self {
            places: Semaphore::new(plan.scenario.jobs.outstanding),
            plan: Arc::clone(plan),
            start,
            ledger: Ledger::default(),
            series: Mutex::default(),
            errors: AtomicU64::new(0),
        }
    }

    pub fn queue(&self) -> &str {
        &self.plan.queue
    }

    /// The payload of a job.
    pub fn payload(&self, number: usize, due: Instant) -> Value {
        let due_us = due.saturating_duration_since(self.start).as_micros();
        let mut payload =
            json!({"number": number, "due_us": u64::try_from(due_us).unwrap_or(u64::MAX), "filler": ""});
        let missing = self.plan.scenario.jobs.payload_bytes.saturating_sub(payload.to_string().len());
        payload["filler"] = "x".repeat(missing).into();
        payload
    }

    /// The number of the job with this payload, and when it was due.
    pub fn due_of(&self, payload: &Value) -> Option<(usize, Instant)> {
        let number = usize::try_from(payload["number"].as_u64()?).ok()?;
        Some((number, self.start.checked_add(Duration::from_micros(payload["due_us"].as_u64()?))?))
    }

    /// Notes something in the meter of this second.
    pub fn measure(&self, note: impl FnOnce(&mut JobMeter)) {
        let mut series = self.series.lock();
        let meter = &mut series.seconds.entry(self.second()).or_default().meter;
        let before = meter.counts.failures();
        note(meter);
        self.errors.fetch_add(meter.counts.failures() - before, Ordering::Relaxed);
    }

    /// All failures so far.
    pub fn meter_errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn second(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    pub fn is_stopped(&self) -> bool {
        *self.plan.stopped.borrow()
    }

    /// Returns when somebody ends the run early.
    pub async fn stop_wanted(&self) {
        // The sender lives as long as the plan.
        let _ = self.plan.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    pub fn stages_have_ended(&self) -> bool {
        self.is_stopped() || self.start.elapsed() >= self.plan.scenario.duration()
    }

    /// Returns when the stages have ended, or the run is ended early.
    pub async fn stages_end(&self) {
        tokio::select! {
            () = tokio::time::sleep_until((self.start + self.plan.scenario.duration()).into()) => {}
            () = self.stop_wanted() => {}
        }
    }

    /// Waits until all jobs are finished, as long as some are.
    async fn settle(&self) {
        let (mut finished, mut since) = (self.ledger.finished(), Instant::now());
        while self.ledger.open() > 0 && since.elapsed() < SETTLE_MAX {
            tokio::time::sleep(SETTLE_STEP).await;
            let now = self.ledger.finished();
            if now > finished {
                (finished, since) = (now, Instant::now());
            }
        }
    }

    /// Discards the jobs of this run that are done. Lost ones stay, to be looked at.
    async fn clean_up(&self) {
        if self.plan.keep {
            return;
        }
        let mut caller = Caller::new(&self.plan.target, 0);
        let done = json!({"queue": self.queue(), "state": "done"});
        if let Err(error) = caller.post("/v1/jobs/discard", &done).await {
            self.measure(|meter| meter.error(&format!("jobs stay behind: {}", error.name())));
        }
    }

    fn result(&self) -> Result<JobSeries> {
        let mut series = std::mem::take(&mut *self.series.lock());
        let mut measured = JobMeter::default();
        for (number, second) in &series.seconds {
            if self.plan.is_measured(*number) {
                measured.add(&second.meter)?;
            }
        }
        measured.counts.lost = self.ledger.open();
        measured.counts.doubled = self.ledger.doubled();
        series.measured = measured;
        let ran =
            self.second().min(u32::try_from(self.plan.scenario.duration().as_secs()).unwrap_or(u32::MAX));
        let measured = (0..ran).filter(|second| self.plan.is_measured(*second)).count();
        series.measured_seconds = u32::try_from(measured).unwrap_or(u32::MAX);
        Ok(series)
    }
}

//! The metrics of jobs: handles that are registered once.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use starling_jobs::{JobState, Missed};

/// The metrics of jobs.
pub(crate) struct JobMetrics {
    pub enqueued: Counter,
    pub fired: Counter,
    pub missed: [Counter; Missed::ALL.len()],
    pub taken: Counter,
    pub done: Counter,
    pub retried: Counter,
    pub failed: Counter,
    pub handed_back: Counter,
    pub lost: Counter,
    pub late: Counter,
    pub held_full: Counter,
    pub held_rate: Counter,
    pub wait_seconds: Histogram,
    pub run_seconds: Histogram,
    pub waiting_workers: Gauge,
    pub running_here: Gauge,
    pub locked: Gauge,
    pub killed: Counter,
    pub silent: Counter,
    pub internal: WaitingMetrics,
    pub outside: WaitingMetrics,
    states: [Gauge; JobState::ALL.len()],
}

/// What waits in the queues of one sort.
pub(crate) struct WaitingMetrics {
    pub oldest_ready_seconds: Gauge,
    pub without_worker: Gauge,
}

/// Registers the metrics.
pub(crate) static METRICS: LazyLock<JobMetrics> = LazyLock::new(|| {
    let attempts = |outcome: &'static str| counter!("starling_job_attempts_total", "outcome" => outcome);
    let held = |by: &'static str| counter!("starling_job_claims_held_total", "by" => by);
    let dead = |noticed: &'static str| counter!("starling_job_workers_dead_total", "noticed" => noticed);
    let missed = |policy: &'static str| counter!("starling_schedules_missed_total", "policy" => policy);
    let waiting = |queues: &'static str| WaitingMetrics {
        oldest_ready_seconds: gauge!("starling_jobs_oldest_ready_seconds", "queues" => queues),
        without_worker: gauge!("starling_job_queues_without_worker", "queues" => queues),
    };
    JobMetrics {
        enqueued: counter!("starling_jobs_enqueued_total"),
        fired: counter!("starling_schedules_fired_total"),
        missed: Missed::ALL.map(|policy| missed(policy.as_str())),
        taken: counter!("starling_jobs_taken_total"),
        done: attempts("done"),
        retried: attempts("retried"),
        failed: attempts("failed"),
        handed_back: attempts("handed_back"),
        lost: attempts("lost"),
        late: attempts("late"),
        held_full: held("concurrency"),
        held_rate: held("rate"),
        wait_seconds: histogram!("starling_job_wait_seconds"),
        run_seconds: histogram!("starling_job_run_seconds"),
        waiting_workers: gauge!("starling_job_workers_waiting"),
        running_here: gauge!("starling_jobs_running_here"),
        locked: gauge!("starling_job_worker_locked"),
        killed: dead("lock"),
        silent: dead("beats"),
        internal: waiting("internal"),
        outside: waiting("outside"),
        states: JobState::ALL.map(|state| gauge!("starling_jobs", "state" => state.as_str())),
    }
});

impl JobMetrics {
    /// The number of jobs in a state.
    pub fn jobs(&self, state: JobState) -> &Gauge {
        &self.states[state as usize]
    }
}

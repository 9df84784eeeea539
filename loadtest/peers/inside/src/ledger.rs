//! Which jobs were added, and when each was begun.

use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// The jobs of a run.
pub struct Ledger {
    filler: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When each job was added, and whether it was begun.
    jobs: Vec<(Instant, bool)>,
    begun: u64,
    doubled: u64,
    /// Waits that count, in milliseconds.
    waits: Vec<f64>,
}

impl Ledger {
    /// Jobs with payloads of this length.
    pub fn new(payload_bytes: usize) -> Self {
        Self { filler: "x".repeat(payload_bytes.saturating_sub(40)), state: Mutex::default() }
    }

    /// The payload of a new job.
    pub fn next(&self) -> String {
        let mut state = self.state.lock();
        let number = state.jobs.len();
        state.jobs.push((Instant::now(), false));
        json!({"number": number, "filler": self.filler}).to_string()
    }

    /// Notes that a worker has begun the job with this payload. Does no work.
    pub fn begin(&self, payload: &str) {
        let payload: Value = serde_json::from_str(payload).unwrap_or_default();
        let number = payload["number"].as_u64().and_then(|number| usize::try_from(number).ok());
        let mut state = self.state.lock();
        let Some((added, begun)) = number.and_then(|number| state.jobs.get_mut(number)) else { return };
        let wait_ms = added.elapsed().as_secs_f64() * 1e3;
        if std::mem::replace(begun, true) {
            state.doubled += 1;
        } else {
            state.begun += 1;
            state.waits.push(wait_ms);
        }
    }

    /// Jobs that were added.
    pub fn added(&self) -> u64 {
        self.state.lock().jobs.len() as u64
    }

    /// Jobs that were begun.
    pub fn begun(&self) -> u64 {
        self.state.lock().begun
    }

    /// Jobs that were added and not begun.
    pub fn open(&self) -> u64 {
        let state = self.state.lock();
        state.jobs.len() as u64 - state.begun
    }

    /// Jobs that were begun again.
    pub fn doubled(&self) -> u64 {
        self.state.lock().doubled
    }

    /// Forgets the waits so far.
    pub fn restart(&self) {
        self.state.lock().waits.clear();
    }

    /// The outcome of a part with this number of jobs.
    pub fn outcome(&self, jobs: u64, since: Instant) -> Value {
        let seconds = since.elapsed().as_secs_f64();
        let mut waits = self.state.lock().waits.clone();
        waits.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1)));
        json!({
            "jobs": jobs, "seconds": seconds,
            "p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99), "max_ms": waits.last(),
        })
    }
}

//! What a run of jobs counts and times, second by second.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Histogram, Observed, count_by_name};

/// Numbers of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JobCounts {
    /// Jobs that were sent to be added.
    pub sent: u64,
    /// Jobs whose addition was acknowledged.
    pub added: u64,
    /// Jobs that a worker got; one that is given twice counts twice.
    pub begun: u64,
    /// Jobs that were finished for the first time.
    pub finished: u64,
    /// Jobs that were acknowledged and never finished.
    pub lost: u64,
    /// Jobs that were finished again.
    pub doubled: u64,
    /// Failures by name.
    pub errors: BTreeMap<String, u64>,
}

/// What a run, or a second of it, counted and timed.
#[derive(Clone, Debug, Default)]
pub struct JobMeter {
    /// The numbers.
    pub counts: JobCounts,
    /// From when a job was due until Starling acknowledged it.
    pub add: Histogram,
    /// From when a job was due until a worker had it.
    pub start: Histogram,
    /// From when a job was due until Starling acknowledged that it was done.
    pub finish: Histogram,
    /// How late the generator itself sent its jobs.
    pub lateness: Histogram,
}

/// A second of a run.
#[derive(Clone, Debug, Default)]
pub struct JobSecond {
    /// What was measured.
    pub meter: JobMeter,
    /// The share of its threads' time that the generator used, 0 to 1.
    pub busy: f64,
}

/// All that a run measured.
#[derive(Debug, Default)]
pub struct JobSeries {
    /// Each second, by its number after the start.
    pub seconds: BTreeMap<u32, JobSecond>,
    /// The measured stages together, with what was lost and doubled in the whole run.
    pub measured: JobMeter,
    /// How many seconds the measured stages took.
    pub measured_seconds: u32,
    /// What the servers used.
    pub observed: Observed,
}

impl JobCounts {
    /// All failures.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The share of failures among all requests about jobs.
    pub fn errors_percent(&self) -> f64 {
        let tried = self.sent + self.begun + self.finished + self.failures();
        if tried == 0 { 0.0 } else { self.failures() as f64 * 100.0 / tried as f64 }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.added += other.added;
        self.begun += other.begun;
        self.finished += other.finished;
        self.lost += other.lost;
        self.doubled += other.doubled;
        for (name, count) in &other.errors {
            count_by_name(&mut self.errors, name, *count);
        }
    }
}

impl JobMeter {
    /// Adds what another one measured.
    ///
    /// # Errors
    /// Never: the histograms have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.counts.add(&other.counts);
        self.add.add(&other.add)?;
        self.start.add(&other.start)?;
        self.finish.add(&other.finish)?;
        self.lateness.add(&other.lateness)
    }

    /// Counts a failure.
    pub fn error(&mut self, name: &str) {
        count_by_name(&mut self.counts.errors, name, 1);
    }
}

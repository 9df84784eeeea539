//! Scenarios of jobs, read from a TOML file with a table `[jobs]`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::JobCriteria;
use crate::scenario::RUN_MAX;

/// The most workers, and the most connections that add jobs.
const CONNECTIONS_MAX: usize = 10_000;
/// The highest rate that a stage may have, jobs per second.
const RATE_MAX: f64 = 1_000_000.0;
/// The largest payload, which Starling limits to 256 KiB.
const PAYLOAD_BYTES_MAX: usize = 200 * 1024;
/// The smallest payload: a number, a time and what stands around them.
const PAYLOAD_BYTES_MIN: usize = 64;

/// What a run of jobs does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JobScenario {
    /// What it shows, in one sentence.
    pub about: String,
    /// Who adds and does jobs.
    #[serde(default)]
    pub jobs: Jobs,
    /// How the rate changes.
    pub stages: Vec<JobStage>,
    /// What the run must reach.
    #[serde(default)]
    pub pass: JobCriteria,
}

/// Who adds and does jobs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jobs {
    /// Workers, each with a request that waits for jobs.
    pub workers: usize,
    /// Jobs that a worker takes at once.
    pub take_max: u16,
    /// The length of a payload, as JSON.
    pub payload_bytes: usize,
    /// How long a job takes its worker.
    pub work_ms: u32,
    /// Connections that add jobs.
    pub adders: usize,
    /// Closes the loop: so many jobs are added and not finished at any time, and the stages' rates are ignored.
    pub outstanding: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { workers: 20, take_max: 1, payload_bytes: 128, work_ms: 0, adders: 16, outstanding: 0 }
    }
}

/// A part of a run with one rate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JobStage {
    /// How long it lasts.
    pub seconds: u32,
    /// Jobs that are added per second.
    #[serde(default)]
    pub jobs_per_second: f64,
    /// Whether its measurements count for the criteria. A stage that warms up does not.
    #[serde(default = "yes")]
    pub measured: bool,
}

fn yes() -> bool {
    true
}

impl JobScenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// When a key is unknown, or a value is out of its range. The message names the key.
    pub fn read(table: toml::Table) -> Result<Self> {
        let scenario: Self = table.try_into().context("the scenario has a wrong key or value")?;
        scenario.check()?;
        Ok(scenario)
    }

    /// How long the stages take.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.stages.iter().map(|stage| u64::from(stage.seconds)).sum())
    }

    /// The stage at a time after the start. After the last one, it is the last one.
    pub fn stage_at(&self, time: Duration) -> usize {
        let mut ends = Duration::ZERO;
        let stages = self.stages.iter().position(|stage| {
            ends += Duration::from_secs(stage.seconds.into());
            time < ends
        });
        stages.unwrap_or(self.stages.len().saturating_sub(1))
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.stages.is_empty(), "a scenario of jobs has [[stages]]");
        for stage in &self.stages {
            ensure!(stage.seconds > 0, "stages.seconds: must not be 0");
            let rate = stage.jobs_per_second;
            ensure!((0.0..=RATE_MAX).contains(&rate), "stages.jobs_per_second: must be 0 to {RATE_MAX}");
        }
        ensure!(self.duration() <= RUN_MAX, "the stages take longer than {} days", RUN_MAX.as_secs() / 86400);
        let jobs = &self.jobs;
        for (key, value, range) in [
            ("workers", jobs.workers, 1..=CONNECTIONS_MAX),
            ("adders", jobs.adders, 1..=CONNECTIONS_MAX),
            ("take_max", usize::from(jobs.take_max), 1..=100),
            ("payload_bytes", jobs.payload_bytes, PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX),
            ("outstanding", jobs.outstanding, 0..=1_000_000),
        ] {
            let (least, most) = (range.start(), range.end());
            ensure!(range.contains(&value), "jobs.{key}: must be {least} to {most}");
        }
        self.pass.check()
    }
}

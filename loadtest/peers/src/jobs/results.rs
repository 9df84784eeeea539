//! What the runs gave. Kept as JSON, from which the tables are made.

use serde::{Deserialize, Serialize};

use super::system::{JobsScenario, System};
use crate::results::{About, median};

/// All runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct JobsComparison {
    /// Where and when.
    pub about: About,
    /// What the runs were like.
    pub load: JobsLoad,
    /// All runs, in their order.
    pub runs: Vec<JobsRun>,
}

/// What the runs are like.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct JobsLoad {
    /// Jobs that are done at once.
    pub at_once: u16,
    /// Jobs that are added at once.
    pub adders: u16,
    /// Jobs a second of the idle scenario.
    pub rate: f64,
    /// Jobs that wait at the beginning of a drain.
    pub jobs: u32,
    /// Jobs that are not done at any time of the steady scenario.
    pub outstanding: u32,
    /// The length of a payload.
    pub payload_bytes: u32,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct JobsRun {
    /// Of which system.
    pub system: System,
    /// In what.
    pub scenario: JobsScenario,
    /// The number of the round.
    pub round: u32,
    /// Why it does not count, if it does not.
    pub fault: Option<String>,
    /// The part in which jobs were done.
    pub done: Part,
    /// The part in which jobs were only added, of a drain.
    pub added: Option<Part>,
}

/// A part of a run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Part {
    /// Jobs.
    pub jobs: u64,
    /// How long it took.
    pub seconds: f64,
    /// From before a job was added until a worker began it, in the middle.
    pub p50_ms: f64,
    /// The same, which one job in ten exceeds.
    pub p90_ms: f64,
    /// The same, which one job in a hundred exceeds.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Processor time of the process that adds and does the jobs, µs. The libraries of the peers run in it.
    pub driver_us: f64,
    /// Processor time of Starling's node, µs.
    pub node_us: f64,
    /// Processor time of PostgreSQL, µs.
    pub postgres_us: f64,
    /// Processor time of Redis, µs.
    pub redis_us: f64,
}

impl Part {
    /// Jobs per second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.jobs as f64 / self.seconds } else { 0.0 }
    }

    /// Processor time per job in µs, of all processes.
    pub fn us_per_job(&self) -> f64 {
        self.per_job(self.driver_us + self.node_us + self.postgres_us + self.redis_us)
    }

    /// Processor time per job in µs, of the database.
    pub fn database_us_per_job(&self) -> f64 {
        self.per_job(self.postgres_us + self.redis_us)
    }

    fn per_job(&self, us: f64) -> f64 {
        us / self.jobs.max(1) as f64
    }
}

impl JobsComparison {
    /// The median of a figure over the runs of a system that count.
    pub fn median(
        &self,
        system: System,
        scenario: JobsScenario,
        figure: impl Fn(&JobsRun) -> Option<f64>,
    ) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.system == system && run.scenario == scenario);
        median(runs.filter(|run| run.fault.is_none()).filter_map(figure).collect())
    }
}

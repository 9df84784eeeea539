//! The systems that are compared, and what they are compared in.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A system, and how its workers take jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Starling's service of jobs as a node runs it, with a handler inside the process
    StarlingInside,
    /// Starling, with workers in Node that take one job at a time over HTTP
    Starling,
    /// The same, ten jobs with each request
    StarlingBatches,
    /// graphile-worker as it comes
    GraphileWorker,
    /// graphile-worker with its local queue and batches of completions
    GraphileWorkerBatches,
    /// pg-boss, whose jobs are fetched and completed one by one
    PgBoss,
    /// pg-boss with its worker that takes ten jobs at once
    PgBossBatches,
    /// BullMQ, over Redis
    Bullmq,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum JobsScenario {
    /// A few jobs a second while the workers mostly wait
    Idle,
    /// Jobs that wait already are done as fast as it goes
    Drain,
    /// Jobs are added and done at the same time as fast as it goes
    Steady,
}

impl System {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::StarlingInside => "Starling, inside a process",
            Self::Starling => "Starling, over HTTP",
            Self::StarlingBatches => "Starling, over HTTP, ten at once",
            Self::GraphileWorker => "graphile-worker",
            Self::GraphileWorkerBatches => "graphile-worker, local queue",
            Self::PgBoss => "pg-boss, one by one",
            Self::PgBossBatches => "pg-boss, ten at once",
            Self::Bullmq => "BullMQ on Redis",
        }
    }

    /// The file of its driver; nothing if it needs no Node.
    pub fn driver(self) -> Option<&'static str> {
        match self {
            Self::StarlingInside => None,
            Self::Starling | Self::StarlingBatches => Some("starling"),
            Self::GraphileWorker | Self::GraphileWorkerBatches => Some("graphile-worker"),
            Self::PgBoss | Self::PgBossBatches => Some("pg-boss"),
            Self::Bullmq => Some("bullmq"),
        }
    }

    /// Jobs that a worker takes at once.
    pub fn batch(self) -> u16 {
        match self {
            Self::StarlingBatches | Self::GraphileWorkerBatches | Self::PgBossBatches => 10,
            _ => 1,
        }
    }

    /// Whether a node of Starling serves it.
    pub fn has_node(self) -> bool {
        matches!(self, Self::Starling | Self::StarlingBatches)
    }
}

impl JobsScenario {
    /// Whether this system can do it. One that polls without a pause does not wait.
    pub fn suits(self, system: System) -> bool {
        self != Self::Idle || system != System::PgBoss
    }

    /// Its name for the drivers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Drain => "drain",
            Self::Steady => "steady",
        }
    }
}

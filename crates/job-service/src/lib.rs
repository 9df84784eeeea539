//! What a node does with jobs: it adds them, gives them to workers outside, does those of internal queues itself, and keeps the queues in order.
//!
//! [`JobService`] stands over a [`starling_jobs::JobStore`], and knows neither tokens nor HTTP. There is one per node.
//!
//! **Waiting.** A worker that asks for jobs while there are none waits in the node's memory ([`JobService::take`]), and costs the database nothing.
//! It learns of new jobs in three ways: from this node when it adds them, from other nodes by a notice ([`JobService::hear_ready`]), and from a look
//! into the database each second, which finds what no notice told.
//!
//! **Gathering.** Jobs that are added at the same time, and reports of workers outside, share transactions (`gather`).
//!
//! **Parts.** [`JobService`] puts together the parts, each with its own file and private fields: `take` and `report` serve workers outside, `worker`
//! is the node's own, `upkeep` does what comes again and again, and `notices` is what they tell one another.
//!
//! **Working.** A node with the role `worker` does the jobs of internal queues, whose names begin with `starling.`, and those of queues
//! that go elsewhere, such as to RabbitMQ: [`Handlers`] says what it can do, and `worker` how.

mod claims;
mod config;
mod gather;
mod known_queues;
mod lease;
mod limits;
mod metrics;
mod notices;
mod ready;
mod report;
mod service;
mod take;
mod time;
mod upkeep;
mod vigil;
mod waiters;
mod worker;

pub use config::JobSettings;
pub use known_queues::TENANT_QUEUES_MAX;
pub use lease::Lease;
pub use report::{Failed, Reported};
pub use service::{
    Action, JobPage, JobService, JobServiceParts, JobSummaryPage, JobsCounted, NotDone, QueueState,
    SCHEDULES_MAX,
};
pub use starling_jobs as jobs;
pub use take::Take;
pub use worker::{Handler, Handlers, Report, Retry, Stop, StopReason, WorkerSetup};

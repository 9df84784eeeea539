//! Durable jobs: work that must happen after something was committed and may take long.
//!
//! The rest of Starling uses the trait [`JobStore`]. [`postgres`] and [`sqlite`] implement it, and `tests/conformance` runs one suite against
//! both. The store does not know what a job means.
//!
//! **States.** A job is scheduled, ready, running, done, failed or cancelled ([`JobState`]). Each state but the last three has a table of its
//! own, so that the tables that every claim reads stay small.
//!
//! **Claims.** A *backlog* is a queue, a tenant and a priority ([`BacklogName`]). A node learns from [`JobStore::arrivals`] which backlogs have jobs,
//! decides in its memory whose turn it is ([`Backlogs`]), and claims from these backlogs ([`JobStore::claim`]). Both calls begin at a [`Mark`], which
//! the call before returned, so that they don't read what other calls have dealt with. That keeps them fast while the database can't remove
//! deleted rows.
//!
//! **Fences.** A claim begins a new *generation* of a job. The end of an attempt names its generation ([`Ending`]). So a worker that was taken
//! for dead can't end a job that another worker has claimed since.
//!
//! **Schedules.** A schedule adds a job at each moment of a cron expression in a time zone ([`Schedule`]). Nodes ask which ones are due,
//! and decide what that means ([`DueSchedule::firing`]); the store lets each moment count once ([`JobStore::fire`]).
//!
//! **Limits.** A queue may have limits ([`QueueLimits`]): how many of its jobs run at the same time, and how many begin per second; of all,
//! of each tenant, and of each concurrency key ([`NewJob::concurrency_key`]). Claims of such a queue follow one another and count running
//! jobs, so the limits hold over all nodes. Jobs whose key has no place are set aside, so that those behind them go on.
//!
//! **Dead workers.** A worker inside a node beats each second ([`JobStore::beat`]), and has a lock that goes with its process ([`JobStore::lock`]).
//! Without beats it is buried after some seconds ([`JobStore::bury_silent`]), without its lock at once ([`JobStore::bury_unlocked`]). A worker outside has
//! leases instead ([`Claimant::lease`]).

mod backlogs;
mod backoff;
mod cron_times;
mod ending;
mod failure;
mod limits;
mod mark;
mod model;
mod overview;
pub mod postgres;
mod schedule;
mod schema;
pub mod sqlite;
mod store;
mod worker_lock;

pub use backlogs::{Backlogs, Moment, Weights};
pub use backoff::Backoff;
pub use cron_times::{CronTimes, InvalidTimes};
pub use failure::JobFailure;
pub use limits::{
    BURST_MAX, CONCURRENCY_MAX, Hold, InvalidLimits, LIMITED_QUEUES_MAX, Limit, QueueLimits, RATE_MAX,
    StartRate,
};
pub use mark::Mark;
pub use model::*;
pub use overview::{DoneLately, JobSummary};
pub use schedule::{
    DueSchedule, DueSchedules, Firing, InvalidSchedule, Missed, PutSchedule, Revision,
    SCHEDULE_PAYLOAD_BYTES_MAX, Schedule, ScheduleTimes, ScheduledJob,
};
pub use schema::SCHEMA;
pub use starling_database::{Error, SchemaStatus};
pub use store::JobStore;
pub use worker_lock::{LostLock, WorkerLock};

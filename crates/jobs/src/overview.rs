//! What lists show: jobs without their payloads, and how fast queues are worked off.

use std::time::Duration;

use crate::{Attempt, BacklogName, Backoff, JobId, JobState, RunningAttempt};

/// What a list shows of a job: everything but its payload, its result and older attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Where it waits or waited.
    pub backlog: BacklogName,
    /// See [`crate::NewJob::kind`].
    pub kind: String,
    /// Its state.
    pub state: JobState,
    /// When it was added, Unix milliseconds.
    pub created_at_ms: i64,
    /// See [`crate::JobDetails::run_at_ms`].
    pub run_at_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_at_ms: Option<i64>,
    /// See [`crate::NewJob::attempts_max`].
    pub attempts_max: u16,
    /// See [`crate::NewJob::backoff`].
    pub backoff: Backoff,
    /// See [`crate::NewJob::concurrency_key`].
    pub concurrency_key: Option<String>,
    /// The newest attempt that has ended.
    pub newest: Option<Attempt>,
    /// The attempt that goes on.
    pub running: Option<RunningAttempt>,
}

/// Jobs of a queue that were done lately and are still kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneLately {
    /// The queue.
    pub queue: String,
    /// The number of jobs that were counted.
    pub jobs: u32,
    /// How long ago the oldest of them ended, by the database's clock.
    pub oldest: Duration,
}

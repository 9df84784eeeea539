//! What workers outside report of their jobs.

use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{AttemptOutcome, Ending, Error, JobStanding, JobState, JobStore, Outcome};

use crate::Lease;
use crate::claims::OutsideClaims;
use crate::gather::Endings;
use crate::metrics::METRICS;
use crate::notices::Notices;
use crate::time::{now_ms, seconds};

/// The answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The job has this state now.
    Now(JobState),
    /// The lease is over, and nothing has changed.
    TooLate,
}

/// The answer to a report of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The answer.
    pub reported: Reported,
    /// When the job is tried again, Unix milliseconds.
    pub run_at_ms: Option<i64>,
}

/// Takes the reports of workers outside.
pub(crate) struct Reports {
    store: Arc<dyn JobStore>,
    endings: Endings,
    claims: Arc<OutsideClaims>,
    notices: Arc<Notices>,
}

impl Reports {
    pub fn new(
        store: Arc<dyn JobStore>,
        endings: Endings,
        claims: Arc<OutsideClaims>,
        notices: Arc<Notices>,
    ) -> Self {
        Self { store, endings, claims, notices }
    }

    /// See [`crate::JobService::extend`].
    pub async fn extend(&self, lease: Lease, by: Duration) -> Result<Option<i64>, Error> {
        self.store.extend(lease.job, lease.generation, by).await
    }

    /// See [`crate::JobService::done`].
    pub async fn done(
        &self,
        lease: Lease,
        standing: &JobStanding,
        result: Option<String>,
    ) -> Result<Reported, Error> {
        let (reported, is_new) = self.report(lease, Outcome::Done(result), AttemptOutcome::Done).await?;
        // A job that was cancelled meanwhile is not done.
        if is_new && reported == Reported::Now(JobState::Done) {
            METRICS.done.increment(1);
            self.note_end(standing);
        }
        Ok(reported)
    }

    /// See [`crate::JobService::fail`].
    pub async fn fail(
        &self,
        lease: Lease,
        standing: &JobStanding,
        error: String,
        retry: bool,
    ) -> Result<Failed, Error> {
        let attempt = standing.running.as_ref().map_or(standing.attempts_max, |running| running.number);
        let again = retry && attempt < standing.attempts_max;
        let retry_in = again.then(|| standing.backoff.delay(attempt, rand::random()));
        let outcome = Outcome::Failed { error, retry_in };
        let (reported, is_new) = self.report(lease, outcome, AttemptOutcome::Failed).await?;
        if is_new {
            if again {
                METRICS.retried.increment(1);
            } else {
                METRICS.failed.increment(1);
            }
            self.note_end(standing);
        }
        if reported == Reported::Now(JobState::Ready) {
            self.notices.note_ready();
        }
        let run_at_ms = match reported {
            Reported::Now(JobState::Scheduled | JobState::Ready) => {
                self.store.standing(lease.job).await?.map(|standing| standing.run_at_ms)
            }
            _ => None,
        };
        Ok(Failed { reported, run_at_ms })
    }

    /// Ends an attempt. Returns whether this call has ended it, too: an earlier one with the same outcome gets the same answer, since its own may
    /// have been lost.
    async fn report(
        &self,
        lease: Lease,
        outcome: Outcome,
        repeated: AttemptOutcome,
    ) -> Result<(Reported, bool), Error> {
        let ending = Ending { job: lease.job, generation: lease.generation, outcome };
        let ended = self.endings.ask(ending).await?;
        self.claims.forget(lease);
        if let Some(state) = ended {
            return Ok((Reported::Now(state), true));
        }
        let job = self.store.job(lease.job).await?;
        let attempts = job.iter().flat_map(|job| &job.attempts);
        let ended = attempts.filter(|attempt| attempt.generation == lease.generation);
        let is_repeated = ended.map(|attempt| attempt.outcome).any(|outcome| outcome == repeated);
        match job {
            Some(job) if is_repeated => Ok((Reported::Now(job.state), false)),
            _ => {
                METRICS.late.increment(1);
                Ok((Reported::TooLate, false))
            }
        }
    }

    /// Records that an attempt has ended. `standing`: where its job stood before.
    fn note_end(&self, standing: &JobStanding) {
        self.notices.note_ended(&standing.backlog.queue);
        if let Some(running) = &standing.running {
            METRICS.run_seconds.record(seconds(now_ms().saturating_sub(running.started_at_ms)));
        }
    }
}

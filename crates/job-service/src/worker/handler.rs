//! What does the work of one kind of jobs.

use std::time::Duration;

use async_trait::async_trait;
use starling_jobs::{ClaimedJob, Outcome, PAYLOAD_BYTES_MAX};
use tokio::sync::watch;

/// Does jobs of one kind.
///
/// A job may be begun more than once, since a worker may die when it has done a part of it: the effects must be repeatable.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Does a job. When `stop` says so, this should return soon: after two seconds it is dropped at its next wait, and the job is handed back,
    /// or cancelled. A panic counts as a failure.
    async fn run(&self, job: &ClaimedJob, stop: Stop) -> Report;

    /// Whether it can work now. While it can't, no jobs are claimed for it alone; it is asked again within a second or so. Only handlers of
    /// whole queues ([`super::Handlers::with_queue`]) are asked.
    fn is_ready(&self) -> bool {
        true
    }
}

/// How a handler's attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The job is done, with this result: JSON of at most [`PAYLOAD_BYTES_MAX`].
    Done(Option<String>),
    /// The attempt failed.
    Failed {
        /// Why, for people.
        error: String,
        /// Whether and when to try again.
        retry: Retry,
    },
    /// Somebody else shall do it, and at once. The attempt does not count.
    HandedBack,
}

/// When a failed job is tried again, if an attempt is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After the job's own back-off.
    Backoff,
    /// After this time.
    After(Duration),
    /// Never: another attempt would fail, too.
    Never,
}

/// Why a handler shall stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The node ends. What can't be finished at once is better handed back.
    Draining,
    /// Somebody has cancelled the job.
    Cancelled,
}

/// Tells a handler that it shall stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<StopReason>>);

/// Tells one handler to stop.
pub(super) type StopSender = watch::Sender<Option<StopReason>>;

impl Stop {
    pub(super) fn new() -> (StopSender, Stop) {
        let (sender, receiver) = watch::channel(None);
        (sender, Stop(receiver))
    }

    /// Returns when the handler shall stop.
    pub async fn wanted(&mut self) -> StopReason {
        if let Ok(reason) = self.0.wait_for(Option::is_some).await
            && let Some(reason) = *reason
        {
            return reason;
        }
        // Nobody is left who could say so.
        std::future::pending().await
    }

    /// Returns why the handler shall stop, if it shall.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        *self.0.borrow()
    }
}

impl Report {
    /// Returns what is noted of the attempt. See [`starling_jobs::Backoff::delay`] for `chance`.
    pub(super) fn outcome(self, job: &ClaimedJob, stopped: Option<StopReason>, chance: f64) -> Outcome {
        match self {
            Report::Done(Some(result)) if result.len() > PAYLOAD_BYTES_MAX => {
                let error = format!("the result has more than {PAYLOAD_BYTES_MAX} bytes");
                Outcome::Failed { error, retry_in: None }
            }
            Report::Done(result) => Outcome::Done(result),
            Report::Failed { error, retry } => {
                let backed_off = job.retry_in(chance);
                let retry_in = match retry {
                    Retry::Backoff => backed_off,
                    Retry::After(delay) => backed_off.map(|_| delay),
                    Retry::Never => None,
                };
                Outcome::Failed { error, retry_in }
            }
            Report::HandedBack if stopped == Some(StopReason::Cancelled) => Outcome::Cancelled,
            Report::HandedBack => Outcome::HandedBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_jobs::{BacklogName, Backoff, JobId};

    use super::*;

    fn job(attempt: u16) -> ClaimedJob {
        ClaimedJob {
            id: JobId::new(),
            generation: 1,
            backlog: BacklogName { queue: "starling.q".into(), tenant: "t".into(), priority: 0 },
            kind: "k".into(),
            payload: "{}".into(),
            attempt,
            attempts_max: 2,
            backoff: Backoff::default(),
            ready_at_ms: 0,
            lease_until_ms: None,
        }
    }

    #[test]
    fn a_failed_job_is_tried_again_while_an_attempt_is_left() {
        let failed = |retry, attempt| {
            let report = Report::Failed { error: "no".into(), retry };
            match report.outcome(&job(attempt), None, 0.5) {
                Outcome::Failed { retry_in, .. } => retry_in.map(|delay| delay.as_secs()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((failed(Retry::Backoff, 1), failed(Retry::Backoff, 2)), (Some(1), None));
        let later = Retry::After(Duration::from_secs(9));
        assert_eq!((failed(later, 1), failed(later, 2)), (Some(9), None));
        assert_eq!(failed(Retry::Never, 1), None);
    }

    #[test]
    fn a_job_that_was_cancelled_is_not_handed_back() {
        let outcome = |stopped| Report::HandedBack.outcome(&job(1), stopped, 0.5);
        assert_eq!(outcome(Some(StopReason::Cancelled)), Outcome::Cancelled);
        assert_eq!(outcome(Some(StopReason::Draining)), Outcome::HandedBack);
        assert_eq!(outcome(None), Outcome::HandedBack);
    }

    #[test]
    fn a_result_that_is_too_large_fails_the_job() {
        let large = Some("1".repeat(PAYLOAD_BYTES_MAX + 1));
        let outcome = Report::Done(large).outcome(&job(1), None, 0.5);
        assert!(matches!(outcome, Outcome::Failed { retry_in: None, .. }), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_stop_is_heard_before_and_after_it_is_said() {
        let (sender, mut stop) = Stop::new();
        assert_eq!(stop.reason(), None);
        let (reason, ()) = tokio::join!(stop.wanted(), async {
            sender.send_replace(Some(StopReason::Draining));
        });
        assert_eq!((reason, stop.wanted().await), (StopReason::Draining, StopReason::Draining));
    }
}

//! Jobs that have failed for good, on their way to webhooks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use starling_jobs::{Attempt, JobDetails, JobFailure, JobId, JobState, JobStore};
use starling_webhooks::{Error, EventId, EventType, NewEvent};
use starling_wire::protocol::{Json, Timestamp};
use tokio::time::sleep;

use crate::knowledge::Knowledge;
use crate::recorder::{Recorder, with_id};
use crate::time::about;

/// How often a node looks for failures, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While no webhook wants failures, only every n-th look is made, to clear those from before the last such webhook was removed.
const LOOKS_WITHOUT: u32 = 60;
/// The most failures that are read at once. Each job has 256 KiB and its attempts.
const BATCH: u16 = 20;
/// The longest payload that is told, bytes. With [`ATTEMPTS_MAX`], an event fits into [`starling_webhooks::BODY_BYTES_MAX`] even if each
/// character of the errors is escaped.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// The most attempts that are told: the newest.
const ATTEMPTS_MAX: usize = 10;

/// A job that has failed, as `GET /v1/jobs/{job}` shows it.
#[derive(Serialize)]
struct ToldJob<'a> {
    job: String,
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    ended_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_max: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_seconds: Option<f64>,
    attempts: Vec<ToldAttempt<'a>>,
}

/// An attempt.
#[derive(Serialize)]
struct ToldAttempt<'a> {
    attempt: u16,
    worker: &'a str,
    started_at: Timestamp,
    ended_at: Timestamp,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Records the deliveries of jobs that have failed for good.
pub(crate) struct FailureAnnouncer {
    knowledge: Arc<Knowledge>,
    recorder: Arc<Recorder>,
    jobs: Arc<dyn JobStore>,
}

impl FailureAnnouncer {
    pub fn new(knowledge: Arc<Knowledge>, recorder: Arc<Recorder>, jobs: Arc<dyn JobStore>) -> Self {
        Self { knowledge, recorder, jobs }
    }

    /// Records the failures that the store of jobs has noted. Several nodes may do so at the same time: each event is recorded once.
    /// Never returns.
    pub async fn run_forever(&self) {
        let mut looks: u32 = 0;
        loop {
            looks = looks.wrapping_add(1);
            let is_due = self.knowledge.wanted().has_any(EventType::JobFailed) || looks % LOOKS_WITHOUT == 1;
            let announced = if is_due { self.announce().await } else { Ok(0) };
            match announced {
                Ok(announced) if announced == usize::from(BATCH) => continue,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "failed jobs could not be announced"),
            }
            sleep(about(LOOK_EVERY)).await;
        }
    }

    /// Announces some failures. Returns their number.
    async fn announce(&self) -> Result<usize, Error> {
        let failures = self.jobs.failures(BATCH).await?;
        if failures.is_empty() {
            return Ok(0);
        }
        let ids: Vec<JobId> = failures.iter().map(|failure| failure.job).collect();
        let jobs = self.jobs.jobs(&ids).await?;
        let jobs: HashMap<JobId, &JobDetails> = jobs.iter().map(|job| (job.id, job)).collect();
        let events: Vec<NewEvent> =
            failures.iter().filter_map(|failure| event(failure, jobs.get(&failure.job).copied())).collect();
        self.recorder.record(&events).await?;
        let positions: Vec<i64> = failures.iter().map(|failure| failure.position).collect();
        self.jobs.forget_failures(&positions).await?;
        Ok(positions.len())
    }
}

/// Makes the event of a failure. Its id is that of the failure, so that it is recorded once.
fn event(failure: &JobFailure, job: Option<&JobDetails>) -> Option<NewEvent> {
    // Plain data can always be written.
    let data = serde_json::to_string(&told(failure, job)).unwrap_or_default();
    let at = Timestamp(failure.failed_at_ms);
    let new = NewEvent::new(failure.tenant.clone(), EventType::JobFailed, at, None, &data);
    with_id(new, EventId(failure.event))
}

/// Returns what is told of a failure. Of a job that was discarded meanwhile, it is what was noted.
fn told<'a>(failure: &'a JobFailure, job: Option<&'a JobDetails>) -> ToldJob<'a> {
    let attempts = job.map_or(&[][..], |job| &job.attempts);
    let payload = job.map(|job| &job.payload).filter(|payload| payload.len() <= PAYLOAD_BYTES_MAX);
    ToldJob {
        job: failure.job.to_string(),
        queue: &failure.queue,
        kind: job.map(|job| job.kind.as_str()),
        payload: payload.map(|payload| Json::from_compact(payload.clone())),
        // It may be tried again by now.
        state: JobState::Failed.as_str(),
        priority: job.map(|job| job.backlog.priority),
        created_at: job.map(|job| Timestamp(job.created_at_ms)),
        run_at: job.map(|job| Timestamp(job.run_at_ms)),
        ended_at: Timestamp(failure.failed_at_ms),
        attempts_max: job.map(|job| job.attempts_max),
        backoff_seconds: job.map(|job| job.backoff.first.as_secs_f64()),
        attempts: attempts[attempts.len().saturating_sub(ATTEMPTS_MAX)..].iter().map(attempt).collect(),
    }
}

fn attempt(attempt: &Attempt) -> ToldAttempt<'_> {
    ToldAttempt {
        attempt: attempt.number,
        worker: &attempt.worker,
        started_at: Timestamp(attempt.started_at_ms),
        ended_at: Timestamp(attempt.ended_at_ms),
        outcome: attempt.outcome.as_str(),
        error: attempt.error.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use starling_jobs::{AttemptOutcome, BacklogName, Backoff};

    use super::*;

    fn failure() -> JobFailure {
        JobFailure {
            position: 1,
            event: EventId::parse("019353a0-7c00-7abc-8def-0123456789ab").unwrap().0,
            job: JobId::new(),
            queue: "mail".into(),
            tenant: "t".into(),
            failed_at_ms: 1_796_126_400_000,
        }
    }

    fn details(payload: &str, attempts: usize, error: &str) -> JobDetails {
        let attempt = |number| Attempt {
            number: u16::try_from(number).unwrap(),
            generation: 1,
            worker: "mailer-1".into(),
            started_at_ms: 1,
            ended_at_ms: 2,
            outcome: AttemptOutcome::Failed,
            error: Some(error.to_owned()),
        };
        JobDetails {
            id: JobId::new(),
            backlog: BacklogName { queue: "mail".into(), tenant: "t".into(), priority: 5 },
            kind: "welcome".into(),
            payload: payload.to_owned(),
            state: JobState::Failed,
            created_at_ms: 0,
            run_at_ms: 0,
            ended_at_ms: Some(2),
            attempts_max: 3,
            backoff: Backoff::default(),
            concurrency_key: None,
            result: None,
            attempts: (1..=attempts).map(attempt).collect(),
            running: None,
        }
    }

    #[test]
    fn the_largest_job_fits_into_an_event() {
        let error = "\u{1}".repeat(4096);
        let payload = format!("\"{}\"", "\u{e9}".repeat(PAYLOAD_BYTES_MAX / 2 - 1));
        let event = event(&failure(), Some(&details(&payload, 1000, &error))).unwrap();
        let body: serde_json::Value = serde_json::from_str(event.body()).unwrap();
        let numbers: Vec<_> =
            body["data"]["attempts"].as_array().unwrap().iter().map(|of| &of["attempt"]).collect();
        assert_eq!((numbers.len(), numbers[9]), (10, &serde_json::json!(1000)));
        assert_eq!(body["data"]["payload"].as_str().unwrap().len(), PAYLOAD_BYTES_MAX - 2);
    }

    #[test]
    fn a_large_payload_is_left_out() {
        let payload = format!("\"{}\"", "a".repeat(PAYLOAD_BYTES_MAX));
        let event = event(&failure(), Some(&details(&payload, 1, "no"))).unwrap();
        let body: serde_json::Value = serde_json::from_str(event.body()).unwrap();
        assert!(body["data"].get("payload").is_none() && body["data"]["kind"] == "welcome", "{body}");
    }

    #[test]
    fn a_job_that_is_gone_is_told_by_its_name() {
        let failure = failure();
        let event = event(&failure, None).unwrap();
        assert_eq!((event.id, event.kind), (EventId(failure.event), EventType::JobFailed));
        let body: serde_json::Value = serde_json::from_str(event.body()).unwrap();
        let expected = serde_json::json!({"job": failure.job.to_string(), "queue": "mail", "state": "failed", "ended_at": "2026-12-01T12:00:00.000Z", "attempts": []});
        assert_eq!(body["data"], expected);
    }
}

//! Looking at jobs: lists, one job, and how many match.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use starling_hub::{Hub, JobsMatching};
use starling_job_service::jobs::{Attempt, JobDetails, JobId, JobSummary, RunningAttempt};
use starling_wire::protocol::{Json, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::error::{ApiError, ErrorResponse, Failures};
use super::jobs::{JobStateName, id_of, state_of};
use super::names::{Name, Names};
use super::paging::{self, PageParams, Params};

/// Attempt to do a job.
#[derive(Serialize, ToSchema)]
pub(super) struct JobAttempt {
    /// Number of the attempt, from 1. One that was handed back does not count, and its number is given again.
    attempt: u16,
    /// Name of the worker.
    worker: String,
    /// Time of the start.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Time of the end; absent while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    ended_at: Option<Timestamp>,
    /// How it ended: `done`, `failed`, `lost` (the worker died, or its lease was over), `handed_back` or `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    outcome: Option<&'static str>,
    /// Why it failed, the first 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

/// Job with its state and its attempts.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "job": "019353a0-7c00-7abc-8def-0123456789ab", "queue": "mail", "kind": "welcome", "payload": {"to": "ada@example.com"},
    "state": "done", "priority": 5, "created_at": "2026-11-21T10:15:00.000Z", "run_at": "2026-11-21T10:15:00.000Z",
    "ended_at": "2026-11-21T10:15:00.310Z", "result": {"sent": true}, "attempts_max": 3, "backoff_seconds": 1.0,
    "attempts": [{
        "attempt": 1, "worker": "mailer-1", "started_at": "2026-11-21T10:15:00.004Z", "ended_at": "2026-11-21T10:15:00.310Z",
        "outcome": "done"
    }]
}))]
pub(super) struct Job {
    /// Id of the job.
    #[schema(format = "uuid")]
    job: String,
    /// Name of the job's queue.
    #[schema(value_type = Name)]
    queue: String,
    /// What is to be done.
    #[schema(value_type = Name)]
    kind: String,
    /// Details for the worker; absent in a list with `brief`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    payload: Option<Json>,
    /// State of the job: scheduled, ready, running, done, failed or cancelled.
    #[schema(value_type = JobStateName)]
    state: &'static str,
    /// Priority, 0 to 9; 9 is first.
    priority: i16,
    /// Time at which it was added.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Moment from which it may run, or might run first.
    #[schema(value_type = String, format = DateTime)]
    run_at: Timestamp,
    /// Time at which it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    ended_at: Option<Timestamp>,
    /// Result that the worker reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    result: Option<Json>,
    /// Maximum number of attempts.
    attempts_max: u16,
    /// Time before the second attempt, in seconds.
    backoff_seconds: f64,
    /// Key whose jobs have limits of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    concurrency_key: Option<String>,
    /// Newest attempts, in order: at most 100 that have ended, and the one that goes on.
    attempts: Vec<JobAttempt>,
}

/// Page of jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct JobList {
    /// Jobs, newest first. A page ends early at 1 MiB.
    jobs: Vec<Job>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Filter and page of a list of jobs.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobParams {
    /// Only list the jobs of this queue; otherwise those of all queues that the token covers.
    #[param(value_type = Option<Name>, nullable = false)]
    queue: Option<String>,
    /// Only list jobs in this state.
    #[param(value_type = Option<JobStateName>, nullable = false)]
    state: Option<String>,
    /// Only list jobs of this kind.
    #[param(value_type = Option<Name>, nullable = false)]
    kind: Option<String>,
    /// Whether to leave out `payload`, `result`, and all attempts that have ended but the newest. Such a page does not end early.
    #[param(nullable = false, default = false)]
    brief: Option<bool>,
    /// `next` of the previous page; absent or empty for the first page.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// Most entries in the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Jobs to count.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CountParams {
    /// Only count the jobs of this queue; otherwise those of all queues that the token covers.
    #[param(value_type = Option<Name>, nullable = false)]
    queue: Option<String>,
    /// Only count jobs in this state.
    #[param(value_type = Option<JobStateName>, nullable = false)]
    state: Option<String>,
    /// Only count jobs of this kind.
    #[param(value_type = Option<Name>, nullable = false)]
    kind: Option<String>,
}

/// Number of jobs that match.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"count": 12, "more": false}))]
pub(super) struct JobCount {
    /// Number of jobs. Those of one `kind` are counted up to 10,000.
    count: u64,
    /// Whether there are more than were counted.
    more: bool,
}

/// Lists jobs, newest first.
#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "listJobs", tag = "jobs", security(("bearer" = [])),
    params(JobParams),
    responses(
        (status = 200, description = "A page of jobs", body = JobList),
        (status = 403, description = "The token covers no queue, or not this one", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(params): Params<JobParams>,
) -> Result<JsonBody<JobList>, ApiError> {
    let is_brief = params.brief.unwrap_or_default();
    let matching = params.matching()?;
    let (jobs, next): (Vec<Job>, _) = if is_brief {
        let page = hub.list_job_summaries(&identity, matching).await?;
        (page.jobs.into_iter().map(Job::from).collect(), page.next)
    } else {
        let page = hub.list_jobs(&identity, matching).await?;
        (page.jobs.into_iter().map(Job::from).collect(), page.next)
    };
    Ok(JsonBody(JobList { jobs, next: next.map(|id| paging::encode(&id.to_string())) }))
}

/// Returns a job with its attempts.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", operation_id = "getJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job", body = Job),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<Job>, ApiError> {
    Ok(JsonBody(hub.job(&identity, id_of(names)?).await?.into()))
}

/// Counts jobs.
#[utoipa::path(
    get, path = "/v1/jobs/count", operation_id = "countJobs", tag = "jobs", security(("bearer" = [])),
    params(CountParams),
    responses(
        (status = 200, description = "The number of jobs", body = JobCount),
        (status = 403, description = "The token covers no queue, or not this one", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn count(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(CountParams { queue, state, kind }): Params<CountParams>,
) -> Result<JsonBody<JobCount>, ApiError> {
    let counted = hub.count_jobs(&identity, matching(queue, state.as_deref(), kind)?).await?;
    Ok(JsonBody(JobCount { count: counted.count, more: counted.more }))
}

impl JobParams {
    fn matching(self) -> Result<JobsMatching, ApiError> {
        let JobParams { queue, state, kind, brief: _, cursor, limit } = self;
        let page = PageParams { cursor, limit };
        let before =
            page.position()?.map(|id| JobId::parse(&id).ok_or_else(paging::bad_cursor)).transpose()?;
        let limit = u16::try_from(page.limit()?).unwrap_or(u16::MAX);
        Ok(JobsMatching { before, limit, ..matching(queue, state.as_deref(), kind)? })
    }
}

/// Reads which jobs are meant.
fn matching(
    queue: Option<String>,
    state: Option<&str>,
    kind: Option<String>,
) -> Result<JobsMatching, ApiError> {
    for (field, name) in [("queue", &queue), ("kind", &kind)] {
        if name.as_deref().is_some_and(|name| !starling_model::is_name(name)) {
            return Err(ApiError::bad_request(format!("`{field}` must be a name")));
        }
    }
    Ok(JobsMatching { queue, state: state.map(state_of).transpose()?, kind, before: None, limit: 1 })
}

impl From<JobDetails> for Job {
    fn from(job: JobDetails) -> Job {
        let ended = job.attempts.into_iter().map(JobAttempt::from);
        let attempts = ended.chain(job.running.map(JobAttempt::from)).collect();
        Job {
            job: job.id.to_string(),
            queue: job.backlog.queue,
            kind: job.kind,
            payload: Some(Json::from_compact(job.payload)),
            state: job.state.as_str(),
            priority: job.backlog.priority,
            created_at: Timestamp(job.created_at_ms),
            run_at: Timestamp(job.run_at_ms),
            ended_at: job.ended_at_ms.map(Timestamp),
            result: job.result.map(Json::from_compact),
            attempts_max: job.attempts_max,
            backoff_seconds: job.backoff.first.as_secs_f64(),
            concurrency_key: job.concurrency_key,
            attempts,
        }
    }
}

impl From<JobSummary> for Job {
    fn from(job: JobSummary) -> Job {
        let ended = job.newest.into_iter().map(JobAttempt::from);
        let attempts = ended.chain(job.running.map(JobAttempt::from)).collect();
        Job {
            job: job.id.to_string(),
            queue: job.backlog.queue,
            kind: job.kind,
            payload: None,
            state: job.state.as_str(),
            priority: job.backlog.priority,
            created_at: Timestamp(job.created_at_ms),
            run_at: Timestamp(job.run_at_ms),
            ended_at: job.ended_at_ms.map(Timestamp),
            result: None,
            attempts_max: job.attempts_max,
            backoff_seconds: job.backoff.first.as_secs_f64(),
            concurrency_key: job.concurrency_key,
            attempts,
        }
    }
}

impl From<Attempt> for JobAttempt {
    fn from(attempt: Attempt) -> JobAttempt {
        JobAttempt {
            attempt: attempt.number,
            worker: attempt.worker,
            started_at: Timestamp(attempt.started_at_ms),
            ended_at: Some(Timestamp(attempt.ended_at_ms)),
            outcome: Some(attempt.outcome.as_str()),
            error: attempt.error,
        }
    }
}

impl From<RunningAttempt> for JobAttempt {
    fn from(running: RunningAttempt) -> JobAttempt {
        JobAttempt {
            attempt: running.number,
            worker: running.worker,
            started_at: Timestamp(running.started_at_ms),
            ended_at: None,
            outcome: None,
            error: None,
        }
    }
}

//! Queues of jobs: taking jobs out of them, looking at them, pausing them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{Hub, TakeRequest};
use starling_job_service::QueueState;
use starling_job_service::jobs::JobState;
use starling_wire::protocol::{Json, Timestamp};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::BodyFields;
use super::jobs::LEASE_SECONDS;
use super::limits::LimitsShown;
use super::names::{Name, Names};
use super::paging::{self, PageParams, Params};

/// The lease of a worker that does not name one.
const LEASE: Duration = Duration::from_secs(30);

/// What a worker asks for. All fields are optional.
#[derive(ToSchema)]
#[schema(example = json!({"max": 10, "wait_seconds": 30, "worker": "mailer-1"}))]
#[expect(dead_code, reason = "describes what `take` reads")]
pub(super) struct TakeBody {
    /// Most jobs.
    #[schema(minimum = 1, maximum = 100, default = 1)]
    max: Option<u16>,
    /// Time to wait while there is no job, in seconds.
    #[schema(minimum = 0, maximum = 30, default = 0)]
    wait_seconds: Option<f64>,
    /// Time that the worker has the jobs, in seconds. It can be extended.
    #[schema(minimum = 5, maximum = 3600, default = 30)]
    lease_seconds: Option<f64>,
    /// Name of the worker, shown in the attempts of the job; the user of the token if absent.
    worker: Option<Name>,
}

/// Jobs that the worker has now.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    /// Jobs; none if none became ready within the wait.
    jobs: Vec<TakenJob>,
}

/// Job that the worker has now.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "job": "019353a0-7c00-7abc-8def-0123456789ab", "kind": "welcome", "payload": {"to": "ada@example.com"}, "attempt": 1,
    "lease": "1-23456789", "deadline": "2026-11-21T10:15:30.000Z"
}))]
pub(super) struct TakenJob {
    /// Id of the job.
    #[schema(format = "uuid")]
    job: String,
    /// What is to be done.
    #[schema(value_type = Name)]
    kind: String,
    /// Details for the worker.
    #[schema(value_type = serde_json::Value)]
    payload: Json,
    /// Number of the attempt, from 1.
    #[schema(minimum = 1)]
    attempt: u16,
    /// Proof that the worker has the job, for its reports.
    lease: String,
    /// Moment at which the lease ends.
    #[schema(value_type = String, format = DateTime)]
    deadline: Timestamp,
}

/// Page of queues.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueList {
    /// Queues that have jobs or are paused, and for the scope `operate` those that have limits, in the order of their names.
    queues: Vec<Queue>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Queue, with its numbers of jobs.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "queue": "mail", "paused": false, "scheduled": 2, "ready": 14, "running": 3, "done": 100, "failed": 1,
    "cancelled": 0, "done_per_second": 12.5, "oldest_ready_seconds": 0.84, "limits": null
}))]
pub(super) struct Queue {
    /// Name of the queue.
    #[schema(value_type = Name)]
    queue: String,
    /// Whether the queue is paused: jobs can be added, but workers get none.
    paused: bool,
    /// Jobs that wait for a time.
    scheduled: u64,
    /// Jobs that wait for a worker.
    ready: u64,
    /// Jobs that workers have.
    running: u64,
    /// Jobs that are done and kept.
    done: u64,
    /// Jobs that failed for good and are kept.
    failed: u64,
    /// Jobs that were cancelled and are kept.
    cancelled: u64,
    /// Jobs that are done per second: in the last minute, or since the oldest one of the newest hundred that are kept.
    done_per_second: f64,
    /// How long the first ready job has waited, in seconds; null without one.
    #[schema(required)]
    oldest_ready_seconds: Option<f64>,
    /// Limits, which hold for the jobs of all tenants; null without.
    #[schema(required)]
    limits: Option<LimitsShown>,
}

/// Takes jobs from a queue. The worker holds them until it reports their outcome or its lease expires.
///
/// Waits while there are none. A job whose lease is over is given to another worker.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/take", operation_id = "takeJobs", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    request_body = TakeBody,
    responses(
        (status = 200, description = "The jobs, or none after the wait", body = Taken),
        (status = 403, description = "The token does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn take(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<Taken>, ApiError> {
    let (Names((queue,)), mut fields) = (names, BodyFields::read(&body)?);
    let request = TakeRequest {
        queue,
        jobs_max: fields.integer("max", 1..=100)?.unwrap_or(1),
        wait: fields.seconds("wait_seconds", 0..=30)?.unwrap_or_default(),
        lease: fields.seconds("lease_seconds", LEASE_SECONDS)?.unwrap_or(LEASE),
        worker: fields.name("worker")?,
    };
    let taken = hub.take_jobs(&identity, request).await?;
    let jobs = taken.into_iter().map(|(job, lease)| TakenJob {
        job: job.id.to_string(),
        kind: job.kind,
        payload: Json::from_compact(job.payload),
        attempt: job.attempt,
        lease: lease.text(),
        deadline: Timestamp(job.lease_until_ms.unwrap_or_default()),
    });
    Ok(JsonBody(Taken { jobs: jobs.collect() }))
}

/// Lists queues with their numbers of jobs.
///
/// The scope `operate` sees all queues of the tenant, `jobs:QUEUE` those that it covers.
#[utoipa::path(
    get, path = "/v1/queues", operation_id = "listQueues", tag = "jobs", security(("bearer" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of queues", body = QueueList),
        (status = 403, description = "The token lacks the scope `operate`, and covers no queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(page): Params<PageParams>,
) -> Result<JsonBody<QueueList>, ApiError> {
    let (after, limit) = (page.position()?, page.limit()?);
    let queues = hub.job_queues(&identity).await?;
    let mut rest = queues.into_iter().filter(|(name, _)| after.as_ref().is_none_or(|after| name > after));
    let page: Vec<Queue> = rest.by_ref().take(limit as usize).map(Queue::from).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| paging::encode(&last.queue));
    Ok(JsonBody(QueueList { queues: page, next }))
}

/// Pauses a queue: jobs can be added, but workers get none. Workers go on with the jobs that they have.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/pause", operation_id = "pauseQueue", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    responses(
        (status = 204, description = "The queue is paused"),
        (status = 403, description = "The token lacks the scope `operate`, and does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn pause(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((queue,)) = names;
    hub.pause_queue(&identity, &queue, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the pause of a queue.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/resume", operation_id = "resumeQueue", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    responses(
        (status = 204, description = "The queue is not paused"),
        (status = 403, description = "The token lacks the scope `operate`, and does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn resume(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((queue,)) = names;
    hub.pause_queue(&identity, &queue, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<(String, QueueState)> for Queue {
    fn from((queue, state): (String, QueueState)) -> Queue {
        let jobs = |of: JobState| state.jobs[of as usize];
        Queue {
            queue,
            paused: state.paused,
            scheduled: jobs(JobState::Scheduled),
            ready: jobs(JobState::Ready),
            running: jobs(JobState::Running),
            done: jobs(JobState::Done),
            failed: jobs(JobState::Failed),
            cancelled: jobs(JobState::Cancelled),
            done_per_second: state.done_per_second,
            oldest_ready_seconds: state.oldest_ready_seconds,
            limits: (!state.limits.is_none()).then(|| state.limits.into()),
        }
    }
}

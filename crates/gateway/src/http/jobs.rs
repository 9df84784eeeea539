//! Jobs: adding them, what their workers report, and retrying, cancelling and discarding them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{CommandError, Hub, NewJobRequest};
use starling_job_service::Action;
use starling_job_service::jobs::{ATTEMPTS_MAX, JobId, JobState, RunAt};
use starling_wire::protocol::{ErrorCode, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::{JOB_BODY_BYTES_MAX, WholeBody};
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::{BodyFields, required};
use super::names::{Name, Names};

/// The kind of a job whose caller does not name one.
pub(super) const KIND: &str = "default";
/// The priority of a job whose caller does not name one.
pub(super) const PRIORITY: u16 = 5;
/// The longest delay of a job, seconds: a year.
const DELAY_SECONDS_MAX: u32 = 366 * 86_400;
/// The range of leases, seconds.
pub(super) const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 5..=3_600;

/// Body with the payload or the result of a job.
type JobBody = WholeBody<JOB_BODY_BYTES_MAX>;

/// Job to add.
#[derive(ToSchema)]
#[schema(example = json!({"queue": "mail", "kind": "welcome", "payload": {"to": "ada@example.com"}, "key": "welcome-ada"}))]
#[expect(dead_code, reason = "describes what `new_job` reads")]
pub(super) struct NewJob {
    /// Queue in which it waits for a worker.
    queue: Name,
    /// What is to be done; `default` if absent. Workers decide by it.
    kind: Option<Name>,
    /// Details for the worker: any JSON value, at most 256 KiB as compact JSON.
    payload: serde_json::Value,
    /// Time to wait before it may run, in seconds.
    #[schema(minimum = 0, maximum = 31622400)]
    delay_seconds: Option<f64>,
    /// Moment from which it may run, instead of `delay_seconds`. At once if it has passed.
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// Priority; 9 is first. A waiting job counts as one step higher for each 10 seconds.
    #[schema(minimum = 0, maximum = 9, default = 5)]
    priority: Option<u16>,
    /// Maximum number of attempts.
    #[schema(minimum = 1, maximum = 1000, default = 3)]
    attempts: Option<u16>,
    /// Time before the second attempt, in seconds. It doubles with each further one, up to an hour, and varies by a fifth.
    #[schema(minimum = 0, maximum = 3600, default = 1)]
    backoff_seconds: Option<f64>,
    /// Unique key, 1 to 200 bytes. While a job with this key has not ended, adding another with the same key returns that job.
    #[schema(min_length = 1, max_length = 200)]
    key: Option<String>,
    /// Whose work it is, such as a customer's account: the queue may limit the jobs with the same key. 1 to 200 bytes.
    #[schema(min_length = 1, max_length = 200)]
    concurrency_key: Option<String>,
}

/// Job that was added, or that has the key.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"job": "019353a0-7c00-7abc-8def-0123456789ab", "created": true}))]
pub(super) struct EnqueuedJob {
    /// Id of the job.
    #[schema(format = "uuid")]
    job: String,
    /// Whether this request added it. Otherwise it is the job with this key that has not ended.
    created: bool,
}

/// State of a job.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `JobState` of the jobs crate, which knows no OpenAPI")]
pub(super) enum JobStateName {
    /// Waits for a time.
    Scheduled,
    /// Waits for a worker.
    Ready,
    /// A worker has it.
    Running,
    /// Has succeeded.
    Done,
    /// All attempts have failed.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
}

/// Lease to make longer.
#[derive(ToSchema)]
#[schema(example = json!({"lease": "1-23456789", "seconds": 60}))]
#[expect(dead_code, reason = "describes what `extend` reads")]
pub(super) struct Extension {
    /// Lease, as it was given with the job.
    lease: String,
    /// Time that the worker has the job from now on, in seconds.
    #[schema(minimum = 5, maximum = 3600)]
    seconds: f64,
}

/// Lease that was made longer.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"deadline": "2026-11-21T10:16:00.000Z"}))]
pub(super) struct Extended {
    /// Moment at which the lease ends.
    #[schema(value_type = String, format = DateTime)]
    deadline: Timestamp,
}

/// Report that a job is done.
#[derive(ToSchema)]
#[schema(example = json!({"lease": "1-23456789", "result": {"sent": true}}))]
#[expect(dead_code, reason = "describes what `done` reads")]
pub(super) struct DoneReport {
    /// Lease, as it was given with the job.
    lease: String,
    /// Any JSON value that is kept with the job, at most 256 KiB as compact JSON.
    result: Option<serde_json::Value>,
}

/// Report that an attempt has failed.
#[derive(ToSchema)]
#[schema(example = json!({"lease": "1-23456789", "error": "the mail server does not respond"}))]
#[expect(dead_code, reason = "describes what `fail` reads")]
pub(super) struct FailReport {
    /// Lease, as it was given with the job.
    lease: String,
    /// Why, for people. The first 4 KiB are kept.
    error: String,
    /// Whether to try again, if an attempt is left.
    #[schema(default = true)]
    retry: Option<bool>,
}

/// State of a job after a change.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"state": "done"}))]
pub(super) struct StateNow {
    /// State; of a discarded job, its last one.
    #[schema(value_type = JobStateName)]
    state: &'static str,
    /// Moment of the next attempt, after a failed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    run_at: Option<Timestamp>,
}

/// Jobs to act on.
#[derive(ToSchema)]
#[schema(example = json!({"queue": "mail", "state": "failed"}))]
#[expect(dead_code, reason = "describes what `act_on_all` reads")]
pub(super) struct Matching {
    /// Their queue.
    queue: Name,
    /// Their state.
    state: JobStateName,
    /// Their kind; any if absent.
    kind: Option<Name>,
}

/// Number of jobs.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"count": 12}))]
pub(super) struct JobsChanged {
    /// Number of jobs that were changed.
    count: u64,
}

/// Adds a job. The response is sent after the commit.
///
/// The token's scope must allow it, as for all calls about jobs: `jobs:QUEUE`, `jobs:PREFIX*` or `admin`.
#[utoipa::path(
    post, path = "/v1/jobs", operation_id = "enqueueJob", tag = "jobs", security(("bearer" = [])),
    request_body = NewJob,
    responses(
        (status = 201, description = "The job has been added", body = EnqueuedJob),
        (status = 409, description = "The tenant has jobs in 1,000 other queues, which is the most", body = ErrorResponse),
        (status = 200, description = "A job with this key has not ended", body = EnqueuedJob),
        (status = 403, description = "The token does not cover this queue", body = ErrorResponse),
        (status = 413, description = "The payload or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn enqueue(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    WholeBody(body): JobBody,
) -> Result<(StatusCode, JsonBody<EnqueuedJob>), ApiError> {
    let enqueued = hub.enqueue_job(&identity, new_job(BodyFields::read(&body)?)?).await?;
    let status = if enqueued.added { StatusCode::CREATED } else { StatusCode::OK };
    let answer = EnqueuedJob { job: enqueued.job.to_string(), created: enqueued.added };
    Ok((status, JsonBody(answer)))
}

/// Makes a lease longer.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/extend", operation_id = "extendLease", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    request_body = Extension,
    responses(
        (status = 200, description = "The lease is longer", body = Extended),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The lease is over; nothing has changed", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn extend(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<Extended>, ApiError> {
    let (job, mut fields) = (id_of(names)?, BodyFields::read(&body)?);
    let lease = required("lease", fields.text("lease")?)?;
    let by = required("seconds", fields.seconds("seconds", LEASE_SECONDS)?)?;
    Ok(JsonBody(Extended { deadline: hub.extend_job(&identity, job, &lease, by).await? }))
}

/// Reports that a job is done. Repeating it with the same lease is harmless.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/done", operation_id = "finishJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    request_body = DoneReport,
    responses(
        (status = 200, description = "The job is done", body = StateNow),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The lease is over; nothing has changed", body = ErrorResponse),
        (status = 413, description = "The result or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn done(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): JobBody,
) -> Result<JsonBody<StateNow>, ApiError> {
    let (job, mut fields) = (id_of(names)?, BodyFields::read(&body)?);
    let lease = required("lease", fields.text("lease")?)?;
    let result = fields.value("result")?.map(|result| result.as_str().to_owned());
    let state = hub.finish_job(&identity, job, &lease, result).await?;
    Ok(JsonBody(StateNow { state: state.as_str(), run_at: None }))
}

/// Reports that an attempt has failed. Repeating it with the same lease is harmless.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/fail", operation_id = "failJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    request_body = FailReport,
    responses(
        (status = 200, description = "The job is tried again at `run_at`, or has failed", body = StateNow),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The lease is over; nothing has changed", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn fail(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<StateNow>, ApiError> {
    let (job, mut fields) = (id_of(names)?, BodyFields::read(&body)?);
    let lease = required("lease", fields.text("lease")?)?;
    let error = required("error", fields.text("error")?)?;
    let retry = fields.boolean("retry")?.unwrap_or(true);
    let (state, run_at) = hub.fail_job(&identity, job, &lease, error, retry).await?;
    Ok(JsonBody(StateNow { state: state.as_str(), run_at }))
}

/// Makes a job that failed or was cancelled ready again, with all its attempts.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/retry", operation_id = "retryJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job is ready", body = StateNow),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The job neither failed nor was cancelled, or another one has its key by now", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn retry(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<StateNow>, ApiError> {
    let state = hub.act_on_job(&identity, Action::Retry, id_of(names)?).await?;
    Ok(JsonBody(StateNow { state: state.as_str(), run_at: None }))
}

/// Cancels a job that has not ended. The lease of its worker is over then.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/cancel", operation_id = "cancelJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job is cancelled", body = StateNow),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The job has ended", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn cancel(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<StateNow>, ApiError> {
    let state = hub.act_on_job(&identity, Action::Cancel, id_of(names)?).await?;
    Ok(JsonBody(StateNow { state: state.as_str(), run_at: None }))
}

/// Removes a job that does not run, and all that is kept of it.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/discard", operation_id = "discardJob", tag = "jobs", security(("bearer" = [])),
    params(("job" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "The job is gone", body = StateNow),
        (status = 403, description = "The token does not cover the job's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such job", body = ErrorResponse),
        (status = 409, description = "The job is running", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn discard(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<StateNow>, ApiError> {
    let state = hub.act_on_job(&identity, Action::Discard, id_of(names)?).await?;
    Ok(JsonBody(StateNow { state: state.as_str(), run_at: None }))
}

/// Retries all jobs that match: `state` is `failed` or `cancelled`.
#[utoipa::path(
    post, path = "/v1/jobs/retry", operation_id = "retryJobs", tag = "jobs", security(("bearer" = [])),
    request_body = Matching,
    responses(
        (status = 200, description = "The jobs are ready, except those whose key another job has by now", body = JobsChanged),
        (status = 403, description = "The token does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn retry_all(
    hub: State<Arc<Hub>>,
    caller: Caller,
    body: WholeBody,
) -> Result<JsonBody<JobsChanged>, ApiError> {
    act_on_all(Action::Retry, hub, caller, body).await
}

/// Cancels all jobs that match: `state` is `scheduled`, `ready` or `running`.
#[utoipa::path(
    post, path = "/v1/jobs/cancel", operation_id = "cancelJobs", tag = "jobs", security(("bearer" = [])),
    request_body = Matching,
    responses(
        (status = 200, description = "The jobs are cancelled", body = JobsChanged),
        (status = 403, description = "The token does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn cancel_all(
    hub: State<Arc<Hub>>,
    caller: Caller,
    body: WholeBody,
) -> Result<JsonBody<JobsChanged>, ApiError> {
    act_on_all(Action::Cancel, hub, caller, body).await
}

/// Removes all jobs that match: `state` is any but `running`.
#[utoipa::path(
    post, path = "/v1/jobs/discard", operation_id = "discardJobs", tag = "jobs", security(("bearer" = [])),
    request_body = Matching,
    responses(
        (status = 200, description = "The jobs are gone", body = JobsChanged),
        (status = 403, description = "The token does not cover this queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn discard_all(
    hub: State<Arc<Hub>>,
    caller: Caller,
    body: WholeBody,
) -> Result<JsonBody<JobsChanged>, ApiError> {
    act_on_all(Action::Discard, hub, caller, body).await
}

async fn act_on_all(
    action: Action,
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<JobsChanged>, ApiError> {
    let mut fields = BodyFields::read(&body)?;
    let queue = required("queue", fields.name("queue")?)?;
    let state = state_of(&required("state", fields.text("state")?)?)?;
    let kind = fields.name("kind")?;
    Ok(JsonBody(JobsChanged { count: hub.act_on_jobs(&identity, action, queue, state, kind).await? }))
}

fn new_job(mut fields: BodyFields) -> Result<NewJobRequest, ApiError> {
    let delay = fields.seconds("delay_seconds", 0..=DELAY_SECONDS_MAX)?;
    let moment = fields.text("run_at")?;
    let run_at = match (delay, moment) {
        (None, None) => RunAt::Now,
        (Some(delay), None) => RunAt::After(delay),
        (None, Some(moment)) => RunAt::At(ms_of(&moment)?),
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("only one of `delay_seconds` and `run_at` may be given"));
        }
    };
    let priority = fields.integer("priority", 0..=9)?.unwrap_or(PRIORITY);
    Ok(NewJobRequest {
        queue: required("queue", fields.name("queue")?)?,
        kind: fields.name("kind")?.unwrap_or_else(|| KIND.to_owned()),
        payload: required("payload", fields.value("payload")?)?.as_str().to_owned(),
        run_at,
        priority: i16::try_from(priority).unwrap_or_default(),
        attempts: fields.integer("attempts", 1..=ATTEMPTS_MAX)?.unwrap_or(3),
        backoff: fields.seconds("backoff_seconds", 0..=3_600)?.unwrap_or(Duration::from_secs(1)),
        key: fields.text("key")?,
        concurrency_key: fields.text("concurrency_key")?,
    })
}

/// Reads a moment as Unix milliseconds.
fn ms_of(moment: &str) -> Result<i64, ApiError> {
    let moment = OffsetDateTime::parse(moment, &Rfc3339)
        .map_err(|_| ApiError::bad_request("`run_at` must be a time like 2026-11-21T10:15:00Z (RFC 3339)"))?;
    Ok(i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

/// Reads a state.
pub(super) fn state_of(name: &str) -> Result<JobState, ApiError> {
    JobState::parse(name).ok_or_else(|| {
        let names = JobState::ALL.map(JobState::as_str).join(", ");
        ApiError::bad_request(format!("`state` must be one of {names}"))
    })
}

/// Reads the id in a path. What is no id is the id of no job.
pub(super) fn id_of(Names((id,)): Names<(String,)>) -> Result<JobId, ApiError> {
    let no_such_job = || CommandError::new(ErrorCode::NotFound, "no such job");
    JobId::parse(&id).ok_or_else(|| no_such_job().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<NewJobRequest, ApiError> {
        new_job(BodyFields::read(body.as_bytes())?)
    }

    #[test]
    fn a_job_has_defaults() {
        let job = read(r#"{"queue": "mail", "payload": null}"#).expect("a job");
        assert_eq!((&*job.kind, &*job.payload, job.priority, job.attempts), ("default", "null", 5, 3));
        assert_eq!((job.run_at, job.backoff, job.key), (RunAt::Now, Duration::from_secs(1), None));
    }

    #[test]
    fn a_moment_is_read_with_its_time_zone() {
        let job =
            read(r#"{"queue": "q", "payload": 1, "run_at": "2026-11-21T11:15:00.5+01:00"}"#).expect("a job");
        assert_eq!(job.run_at, RunAt::At(1_795_256_100_500));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for body in [
            r#"{"payload": 1}"#,
            r#"{"queue": "q"}"#,
            r#"{"queue": "a b", "payload": 1}"#,
            r#"{"queue": "q", "payload": 1, "priority": 10}"#,
            r#"{"queue": "q", "payload": 1, "attempts": 0}"#,
            r#"{"queue": "q", "payload": 1, "attempts": 1001}"#,
            r#"{"queue": "q", "payload": 1, "backoff_seconds": 3601}"#,
            r#"{"queue": "q", "payload": 1, "delay_seconds": -1}"#,
            r#"{"queue": "q", "payload": 1, "run_at": "tomorrow"}"#,
            r#"{"queue": "q", "payload": 1, "run_at": "2026-11-21T11:15:00Z", "delay_seconds": 1}"#,
            r#"{"queue": "q", "payload": 1, "kind": ""}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}

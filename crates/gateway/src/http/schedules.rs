//! Schedules: jobs that are added again and again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{Hub, ScheduleRequest};
use starling_job_service::jobs::{ATTEMPTS_MAX, Missed, Schedule};
use starling_wire::protocol::{Json, Timestamp};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::{BodyFields, required};
use super::jobs::{KIND, PRIORITY};
use super::names::{Name, Names};
use super::paging::{self, PageParams, Params};

/// The time zone of a schedule whose caller does not name one.
const ZONE: &str = "UTC";

/// Schedule to keep.
#[derive(ToSchema)]
#[schema(example = json!({"cron": "30 6 * * MON-FRI", "time_zone": "Europe/Zurich", "queue": "mail", "kind": "digest", "payload": {"list": "daily"}}))]
#[expect(dead_code, reason = "describes what `put` reads")]
pub(super) struct NewSchedule {
    /// Cron expression: minute, hour, day of the month, month, day of the week; with six fields, the first is the second.
    #[schema(max_length = 200)]
    cron: String,
    /// Time zone of the IANA database.
    #[schema(default = "UTC")]
    time_zone: Option<String>,
    /// What is done about moments that no node could keep.
    missed: Option<MissedName>,
    /// Queue of the jobs.
    queue: Name,
    /// What is to be done; `default` if absent. Workers decide by it.
    kind: Option<Name>,
    /// Details for the worker: any JSON value, at most 16 KiB as compact JSON.
    payload: serde_json::Value,
    /// Priority; 9 is first.
    #[schema(minimum = 0, maximum = 9, default = 5)]
    priority: Option<u16>,
    /// Maximum number of attempts of each job.
    #[schema(minimum = 1, maximum = 1000, default = 3)]
    attempts: Option<u16>,
    /// Time before the second attempt, in seconds.
    #[schema(minimum = 0, maximum = 3600, default = 1)]
    backoff_seconds: Option<f64>,
}

/// What is done about moments that no node could keep: `once` (by default) adds one job for all of them, `all` a job for each of the last hundred,
/// `skip` none.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `Missed` of the jobs crate, which knows no OpenAPI")]
pub(super) enum MissedName {
    /// Adds no job.
    Skip,
    /// Adds one job.
    Once,
    /// Adds a job for each.
    All,
}

/// Schedule that adds jobs, with its next and last moment.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "schedule": "digest", "cron": "30 6 * * MON-FRI", "time_zone": "Europe/Zurich", "missed": "once", "queue": "mail", "kind": "digest",
    "payload": {"list": "daily"}, "priority": 5, "attempts": 3, "backoff_seconds": 1.0, "next_at": "2026-11-23T05:30:00.000Z", "last_at": null
}))]
pub(super) struct ScheduleShown {
    /// Name of the schedule.
    #[schema(value_type = Name)]
    schedule: String,
    /// Cron expression.
    cron: String,
    /// Time zone.
    time_zone: String,
    /// What is done about moments that no node could keep.
    #[schema(value_type = MissedName)]
    missed: &'static str,
    /// Queue of the jobs.
    #[schema(value_type = Name)]
    queue: String,
    /// What is to be done.
    #[schema(value_type = Name)]
    kind: String,
    /// Details for the worker.
    #[schema(value_type = serde_json::Value)]
    payload: Json,
    /// Priority of the jobs.
    priority: i16,
    /// Maximum number of attempts of each job.
    attempts: u16,
    /// Time before the second attempt, in seconds.
    backoff_seconds: f64,
    /// Moment of the next job; null if there is none.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_at: Option<Timestamp>,
    /// Moment of the last job; null if there was none.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_at: Option<Timestamp>,
}

/// Page of schedules.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleList {
    /// Schedules whose queues the token covers, in the order of their names.
    schedules: Vec<ScheduleShown>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Keeps a schedule: a job is added at each moment that its cron expression names in its time zone.
///
/// Replaces a schedule of the same name. If `cron` and `time_zone` stay the same, it goes on where it was.
#[utoipa::path(
    put, path = "/v1/schedules/{schedule}", operation_id = "putSchedule", tag = "jobs", security(("bearer" = [])),
    params(("schedule" = Name, Path, description = "Name of the schedule")),
    request_body = NewSchedule,
    responses(
        (status = 201, description = "There was none of this name", body = ScheduleShown),
        (status = 200, description = "The schedule has been replaced", body = ScheduleShown),
        (status = 403, description = "The token does not cover the queue, or that of the schedule there is", body = ErrorResponse),
        (status = 409, description = "The tenant has 1,000 schedules, or others change this one at the same time", body = ErrorResponse),
        (status = 413, description = "The payload or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<(StatusCode, JsonBody<ScheduleShown>), ApiError> {
    let Names((name,)) = names;
    let request = request(name, BodyFields::read(&body)?)?;
    let (schedule, is_new) = hub.put_schedule(&identity, request).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonBody(schedule.into())))
}

/// Returns a schedule.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}", operation_id = "getSchedule", tag = "jobs", security(("bearer" = [])),
    params(("schedule" = Name, Path, description = "Name of the schedule")),
    responses(
        (status = 200, description = "The schedule", body = ScheduleShown),
        (status = 403, description = "The token does not cover the schedule's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such schedule", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<ScheduleShown>, ApiError> {
    let Names((name,)) = names;
    Ok(JsonBody(hub.schedule(&identity, &name).await?.into()))
}

/// Removes a schedule. Jobs that it has added stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{schedule}", operation_id = "deleteSchedule", tag = "jobs", security(("bearer" = [])),
    params(("schedule" = Name, Path, description = "Name of the schedule")),
    responses(
        (status = 204, description = "The schedule is gone"),
        (status = 403, description = "The token does not cover the schedule's queue", body = ErrorResponse),
        (status = 404, description = "The tenant has no such schedule", body = ErrorResponse),
        (status = 409, description = "Others change it at the same time", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((name,)) = names;
    hub.delete_schedule(&identity, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists schedules.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "listSchedules", tag = "jobs", security(("bearer" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of schedules", body = ScheduleList),
        (status = 403, description = "The token covers no queue", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(page): Params<PageParams>,
) -> Result<JsonBody<ScheduleList>, ApiError> {
    let limit = u16::try_from(page.limit()?).unwrap_or(u16::MAX);
    let (schedules, more) = hub.list_schedules(&identity, page.position()?, limit).await?;
    let schedules: Vec<ScheduleShown> = schedules.into_iter().map(ScheduleShown::from).collect();
    let next = schedules.last().filter(|_| more).map(|last| paging::encode(&last.schedule));
    Ok(JsonBody(ScheduleList { schedules, next }))
}

fn request(name: String, mut fields: BodyFields) -> Result<ScheduleRequest, ApiError> {
    let missed = match fields.text("missed")? {
        None => Missed::Once,
        Some(missed) => Missed::parse(&missed).ok_or_else(|| {
            let names = Missed::ALL.map(Missed::as_str).join(", ");
            ApiError::bad_request(format!("`missed` must be one of {names}"))
        })?,
    };
    let priority = fields.integer("priority", 0..=9)?.unwrap_or(PRIORITY);
    Ok(ScheduleRequest {
        name,
        cron: required("cron", fields.text("cron")?)?,
        zone: fields.text("time_zone")?.unwrap_or_else(|| ZONE.to_owned()),
        missed,
        queue: required("queue", fields.name("queue")?)?,
        kind: fields.name("kind")?.unwrap_or_else(|| KIND.to_owned()),
        payload: required("payload", fields.value("payload")?)?.as_str().to_owned(),
        priority: i16::try_from(priority).unwrap_or_default(),
        attempts: fields.integer("attempts", 1..=ATTEMPTS_MAX)?.unwrap_or(3),
        backoff: fields.seconds("backoff_seconds", 0..=3_600)?.unwrap_or(Duration::from_secs(1)),
    })
}

impl From<Schedule> for ScheduleShown {
    fn from(schedule: Schedule) -> ScheduleShown {
        let Schedule { name, times, job, next_ms, last_ms, .. } = schedule;
        ScheduleShown {
            schedule: name,
            cron: times.cron,
            time_zone: times.zone,
            missed: times.missed.as_str(),
            queue: job.queue,
            kind: job.kind,
            payload: Json::from_compact(job.payload),
            priority: job.priority,
            attempts: job.attempts_max,
            backoff_seconds: job.backoff.first.as_secs_f64(),
            next_at: next_ms.map(Timestamp),
            last_at: last_ms.map(Timestamp),
        }
    }
}

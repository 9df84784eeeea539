//! Limits of queues: how many jobs run at the same time, and how many begin per second.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::Hub;
use starling_job_service::jobs::{Limit, QueueLimits, RATE_MAX, StartRate};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::BodyFields;
use super::names::{Name, Names};

/// The range of rates, jobs per second.
const PER_SECOND: std::ops::RangeInclusive<f64> = 0.001..=10_000.0;

/// Limits of a queue, over all nodes. All of them hold at the same time; at least one must be given.
#[derive(ToSchema)]
#[schema(example = json!({"total": {"concurrency": 20}, "per_key": {"concurrency": 1, "per_second": 2.5}}))]
#[expect(dead_code, reason = "describes what `put` reads")]
pub(super) struct NewLimits {
    /// Of all jobs of the queue.
    total: Option<NewLimit>,
    /// Of the jobs of each tenant.
    per_tenant: Option<NewLimit>,
    /// Of the jobs with the same `concurrency_key` of each tenant. Jobs without one are not limited by it.
    per_key: Option<NewLimit>,
}

/// Limit that is to be set.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `put` reads")]
pub(super) struct NewLimit {
    /// Most jobs that run at the same time; any number if absent.
    #[schema(minimum = 1, maximum = 10000)]
    concurrency: Option<u16>,
    /// Jobs that begin per second, evenly; any number if absent. It need not be whole.
    #[schema(minimum = 0.001, maximum = 10000)]
    per_second: Option<f64>,
    /// Jobs that may begin at once after a pause; those of a second, and at least 1, if absent.
    #[schema(minimum = 1, maximum = 10000)]
    burst: Option<u16>,
}

/// Limits of a queue. Where there is no limit, the value is null.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "total": {"concurrency": 20, "per_second": null, "burst": null}, "per_tenant": null,
    "per_key": {"concurrency": 1, "per_second": 2.5, "burst": 3}
}))]
pub(super) struct LimitsShown {
    /// Of all jobs of the queue.
    #[schema(required)]
    total: Option<LimitShown>,
    /// Of the jobs of each tenant.
    #[schema(required)]
    per_tenant: Option<LimitShown>,
    /// Of the jobs with the same `concurrency_key` of each tenant.
    #[schema(required)]
    per_key: Option<LimitShown>,
}

/// Limit that is set.
#[derive(Serialize, ToSchema)]
pub(super) struct LimitShown {
    /// Most jobs that run at the same time.
    #[schema(required)]
    concurrency: Option<u32>,
    /// Jobs that begin per second.
    #[schema(required)]
    per_second: Option<f64>,
    /// Jobs that may begin at once after a pause.
    #[schema(required)]
    burst: Option<u32>,
}

/// Sets the limits of a queue, in the place of those it has.
///
/// They hold for the jobs of all tenants and over all nodes, from the next job on that begins. Jobs that run already are counted, and go on.
#[utoipa::path(
    put, path = "/v1/queues/{queue}/limits", operation_id = "putQueueLimits", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    request_body = NewLimits,
    responses(
        (status = 200, description = "The limits hold", body = LimitsShown),
        (status = 403, description = "The token lacks the scope `operate`", body = ErrorResponse),
        (status = 409, description = "1,000 other queues have limits", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<LimitsShown>, ApiError> {
    let Names((queue,)) = names;
    let limits = limits_of(BodyFields::read(&body)?)?;
    hub.put_limits(&identity, &queue, limits).await?;
    Ok(JsonBody(limits.into()))
}

/// Returns the limits of a queue.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/limits", operation_id = "getQueueLimits", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    responses(
        (status = 200, description = "The limits", body = LimitsShown),
        (status = 403, description = "The token lacks the scope `operate`", body = ErrorResponse),
        (status = 404, description = "The queue has no limits", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<LimitsShown>, ApiError> {
    let Names((queue,)) = names;
    Ok(JsonBody(hub.limits(&identity, &queue).await?.into()))
}

/// Removes the limits of a queue.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/limits", operation_id = "deleteQueueLimits", tag = "jobs", security(("bearer" = [])),
    params(("queue" = Name, Path, description = "Name of the queue")),
    responses(
        (status = 204, description = "The queue has no limits any more"),
        (status = 403, description = "The token lacks the scope `operate`", body = ErrorResponse),
        (status = 404, description = "The queue has no limits", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((queue,)) = names;
    hub.remove_limits(&identity, &queue).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn limits_of(mut fields: BodyFields) -> Result<QueueLimits, ApiError> {
    let mut limit = |field: &str| fields.object(field)?.map_or(Ok(Limit::default()), limit_of);
    Ok(QueueLimits { total: limit("total")?, per_tenant: limit("per_tenant")?, per_key: limit("per_key")? })
}

fn limit_of(mut fields: BodyFields) -> Result<Limit, ApiError> {
    let concurrency = fields.integer("concurrency", 1..=10_000)?.map(u32::from);
    let burst = fields.integer("burst", 1..=10_000)?.map(u32::from);
    let rate = match fields.decimal("per_second", PER_SECOND)? {
        Some(per_second) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
            let (per_1000_seconds, of_a_second) =
                ((per_second * 1000.0).round() as u32, per_second.ceil() as u32);
            let per_1000_seconds = per_1000_seconds.clamp(1, RATE_MAX);
            Some(StartRate { per_1000_seconds, burst: burst.unwrap_or(of_a_second) })
        }
        None if burst.is_some() => return Err(ApiError::bad_request("`burst` needs `per_second`")),
        None => None,
    };
    Ok(Limit { concurrency, rate })
}

impl From<QueueLimits> for LimitsShown {
    fn from(limits: QueueLimits) -> LimitsShown {
        let shown = |limit: Limit| (!limit.is_none()).then(|| LimitShown::from(limit));
        LimitsShown {
            total: shown(limits.total),
            per_tenant: shown(limits.per_tenant),
            per_key: shown(limits.per_key),
        }
    }
}

impl From<Limit> for LimitShown {
    fn from(limit: Limit) -> LimitShown {
        LimitShown {
            concurrency: limit.concurrency,
            per_second: limit.rate.map(|rate| f64::from(rate.per_1000_seconds) / 1000.0),
            burst: limit.rate.map(|rate| rate.burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<QueueLimits, ApiError> {
        limits_of(BodyFields::read(body.as_bytes())?)
    }

    #[test]
    fn limits_are_shown_as_they_were_given() {
        let limits =
            read(r#"{"total": {"concurrency": 20}, "per_key": {"concurrency": 1, "per_second": 2.5}}"#);
        let shown = serde_json::to_value(LimitsShown::from(limits.expect("limits"))).expect("JSON");
        let expected = serde_json::json!({
            "total": {"concurrency": 20, "per_second": null, "burst": null}, "per_tenant": null,
            "per_key": {"concurrency": 1, "per_second": 2.5, "burst": 3}
        });
        assert_eq!(shown, expected);
        let slow = read(r#"{"per_tenant": {"per_second": 0.001, "burst": 7}}"#).expect("limits");
        assert_eq!(slow.per_tenant.rate, Some(StartRate { per_1000_seconds: 1, burst: 7 }));
        assert!(read(r#"{"total": null}"#).expect("none").is_none());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for body in [
            r#"{"total": 5}"#,
            r#"{"total": {"concurrency": 0}}"#,
            r#"{"total": {"concurrency": 1.5}}"#,
            r#"{"per_tenant": {"concurrency": 10001}}"#,
            r#"{"per_key": {"per_second": 0}}"#,
            r#"{"per_key": {"per_second": 10001}}"#,
            r#"{"per_key": {"per_second": 1, "burst": 0}}"#,
            r#"{"per_key": {"burst": 1}}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}

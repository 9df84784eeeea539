//! Deliveries of events to webhooks: looking at them, sending them again, and tests.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{CommandError, Hub};
use starling_webhook_service::webhooks::{DeliveryStatus, EventId, WebhookId};
use starling_wire::protocol::{ErrorCode, Json, Timestamp};
use utoipa::ToSchema;

use super::auth::Caller;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::Names;
use super::paging::{self, PageParams, Params};
use super::webhooks::id_of;

/// Delivery of an event to a webhook.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "delivery": "019353a0-7c00-7abc-8def-0123456789ab", "type": "message.created", "state": "delivered", "attempts": 1,
    "status": 200, "answer": "ok", "at": "2026-11-21T10:15:00.000Z"
}))]
pub(super) struct DeliveryShown {
    /// Id of the event, as in the header `webhook-id`.
    #[schema(format = "uuid")]
    delivery: String,
    /// Type of the event.
    r#type: String,
    /// `waiting`, `delivered` or `failed`.
    state: &'static str,
    /// Attempts that were made.
    attempts: u32,
    /// HTTP status of the newest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why the newest attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Beginning of the newest answer, at most 1 KiB.
    answer: String,
    /// Time at which the event was recorded.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Time at which the newest attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    attempted_at: Option<Timestamp>,
    /// What is sent. Lists leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    body: Option<Json>,
}

/// Page of deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryList {
    /// Deliveries, the newest first.
    deliveries: Vec<DeliveryShown>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Test that will be sent.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"delivery": "019353a0-7c00-7abc-8def-0123456789ab"}))]
pub(super) struct TestSent {
    /// Id of the delivery, which shows the answer.
    #[schema(format = "uuid")]
    delivery: String,
}

/// Lists the deliveries of a webhook, the newest first: those that wait, and the last 500 that have ended.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}/deliveries", operation_id = "listDeliveries", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook"), PageParams),
    responses(
        (status = 200, description = "A page of deliveries", body = DeliveryList),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    Params(page): Params<PageParams>,
) -> Result<JsonBody<DeliveryList>, ApiError> {
    let before =
        page.position()?.map(|place| place.parse::<i64>().map_err(|_| paging::bad_cursor())).transpose()?;
    let limit = u16::try_from(page.limit()?).unwrap_or(u16::MAX);
    let mut found = hub.deliveries(&identity, id_of(names)?, before, limit + 1).await?;
    let has_more = found.len() > usize::from(limit);
    found.truncate(limit.into());
    let next = found.last().filter(|_| has_more).map(|last| paging::encode(&last.position.to_string()));
    Ok(JsonBody(DeliveryList { deliveries: found.into_iter().map(DeliveryShown::from).collect(), next }))
}

/// Returns a delivery with what is sent.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}/deliveries/{delivery}", operation_id = "getDelivery", tag = "webhooks",
    security(("bearer" = [])),
    params(
        ("webhook" = String, Path, description = "Id of the webhook"),
        ("delivery" = String, Path, description = "Id of the delivery"),
    ),
    responses(
        (status = 200, description = "The delivery", body = DeliveryShown),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "There is no such delivery", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String, String)>,
) -> Result<JsonBody<DeliveryShown>, ApiError> {
    let (webhook, event) = ids_of(names)?;
    let delivery = hub.delivery(&identity, webhook, event).await?;
    let shown = DeliveryShown { body: Some(Json::from_compact(delivery.body)), ..delivery.status.into() };
    Ok(JsonBody(shown))
}

/// Sends an event of the type `webhook.test` to this webhook, and to no other.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/test", operation_id = "testWebhook", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook")),
    responses(
        (status = 202, description = "It will be sent", body = TestSent),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        (status = 409, description = "The webhook is paused", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn test(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<(StatusCode, JsonBody<TestSent>), ApiError> {
    let event = hub.test_webhook(&identity, id_of(names)?).await?;
    Ok((StatusCode::ACCEPTED, JsonBody(TestSent { delivery: event.to_string() })))
}

/// Sends an event again, or at once if it waits for its next attempt.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/deliveries/{delivery}/resend", operation_id = "resend", tag = "webhooks",
    security(("bearer" = [])),
    params(
        ("webhook" = String, Path, description = "Id of the webhook"),
        ("delivery" = String, Path, description = "Id of the delivery"),
    ),
    responses(
        (status = 202, description = "It will be sent"),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "There is no such delivery", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn resend(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (webhook, event) = ids_of(names)?;
    hub.resend(&identity, webhook, event).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Reads the ids in a path. What is no id is the id of no delivery.
fn ids_of(Names((webhook, delivery)): Names<(String, String)>) -> Result<(WebhookId, EventId), ApiError> {
    let no_such_delivery = || CommandError::new(ErrorCode::NotFound, "no such delivery");
    let event = EventId::parse(&delivery).ok_or_else(no_such_delivery)?;
    Ok((id_of(Names((webhook,)))?, event))
}

impl From<DeliveryStatus> for DeliveryShown {
    fn from(status: DeliveryStatus) -> DeliveryShown {
        DeliveryShown {
            delivery: status.event.to_string(),
            r#type: status.kind,
            state: status.state.as_str(),
            attempts: status.attempts,
            status: status.status,
            reason: status.reason,
            answer: status.answer,
            at: Timestamp(status.recorded_at_ms),
            attempted_at: status.attempted_at_ms.map(Timestamp),
            body: None,
        }
    }
}

//! Webhooks: backends that are told what has happened.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{CommandError, Hub, WebhookRequest};
use starling_webhook_service::webhooks::{AnsweredAttempt, Secret, Webhook, WebhookActivity, WebhookId};
use starling_wire::protocol::{ErrorCode, Timestamp};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::BodyFields;
use super::names::Names;
use super::paging::{self, PageParams, Params};

/// Webhook to add.
#[derive(ToSchema)]
#[schema(example = json!({"url": "https://app.example/events", "events": ["message.created"], "ordered": true}))]
#[expect(dead_code, reason = "describes what `add` reads")]
pub(super) struct NewWebhook {
    /// Address that events are sent to: `https://…`, or `http://…` in a network that the operator allows.
    #[schema(max_length = 2048)]
    url: String,
    /// Types of events that are wanted, or `*` alone for all.
    events: Vec<String>,
    /// Whether the events of a conversation arrive in order: the next one waits for the one before.
    #[schema(default = false)]
    ordered: Option<bool>,
}

/// Changes to a webhook. An absent field stays.
#[derive(ToSchema)]
#[schema(example = json!({"paused": false}))]
#[expect(dead_code, reason = "describes what `change` reads")]
pub(super) struct WebhookPatch {
    /// Address that events are sent to.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Types of events that are wanted, or `*` alone for all.
    events: Option<Vec<String>>,
    /// Whether the events of a conversation arrive in order.
    ordered: Option<bool>,
    /// Whether deliveries wait. `false` resumes the webhook: what it has missed is sent.
    paused: Option<bool>,
}

/// Webhook: an address that is told of events.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "webhook": "019353a0-7c00-7abc-8def-0123456789ab", "url": "https://app.example/events", "events": ["message.created"],
    "ordered": true, "state": "active", "created_at": "2026-11-21T10:15:00.000Z"
}))]
pub(super) struct WebhookShown {
    /// Id of the webhook.
    #[schema(format = "uuid")]
    webhook: String,
    /// Address that events are sent to.
    url: String,
    /// Types of events that are wanted.
    events: Vec<&'static str>,
    /// Whether the events of a conversation arrive in order.
    ordered: bool,
    /// `active`, or `paused`: deliveries wait until it is resumed.
    state: &'static str,
    /// Since when all attempts have failed; absent if the newest one succeeded, or there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    failing_since: Option<Timestamp>,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Number of deliveries that wait. Only the answers to `GET` have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    waiting: Option<u64>,
    /// Newest attempts, the newest first: at most 10, one of each delivery. Only the answers to `GET` have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    recent: Option<Vec<RecentAttempt>>,
    /// Secret that signs the requests. Only the answer that made it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
}

/// Newest attempt of a delivery.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "delivery": "019353a0-7c00-7abc-8def-0123456789ab", "type": "message.created", "state": "delivered", "status": 200,
    "attempted_at": "2026-11-21T10:15:00.000Z"
}))]
pub(super) struct RecentAttempt {
    /// Id of the delivery.
    #[schema(format = "uuid")]
    delivery: String,
    /// Type of the event.
    r#type: String,
    /// State of the delivery: `waiting` for another attempt, `delivered` or `failed`.
    state: &'static str,
    /// HTTP status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why the attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Time at which the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    attempted_at: Timestamp,
}

/// Page of webhooks.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookList {
    /// Webhooks, the oldest first.
    webhooks: Vec<WebhookShown>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// New secret of a webhook or a hook.
#[derive(Serialize, ToSchema)]
pub(super) struct NewSecret {
    /// Secret that signs from now on. The one before signs as well for 24 hours.
    secret: String,
}

impl NewSecret {
    pub(super) fn of(secret: &Secret) -> Self {
        Self { secret: secret.expose() }
    }
}

/// Adds a webhook: from now on its backend is told of these events.
#[utoipa::path(
    post, path = "/v1/webhooks", operation_id = "addWebhook", tag = "webhooks", security(("bearer" = [])),
    request_body = NewWebhook,
    responses(
        (status = 201, description = "The webhook, with its secret", body = WebhookShown),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 409, description = "The tenant has as many webhooks as it may", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    WholeBody(body): WholeBody,
) -> Result<(StatusCode, JsonBody<WebhookShown>), ApiError> {
    let request = WebhookRequest { paused: None, ..request(&body)? };
    let (webhook, secret) = hub.add_webhook(&identity, request).await?;
    Ok((StatusCode::CREATED, JsonBody(shown(&webhook, Some(&secret)))))
}

/// Lists the webhooks of the tenant.
#[utoipa::path(
    get, path = "/v1/webhooks", operation_id = "listWebhooks", tag = "webhooks", security(("bearer" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of webhooks", body = WebhookList),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(page): Params<PageParams>,
) -> Result<JsonBody<WebhookList>, ApiError> {
    let after =
        page.position()?.map(|id| WebhookId::parse(&id).ok_or_else(paging::bad_cursor)).transpose()?;
    let limit = u16::try_from(page.limit()?).unwrap_or(u16::MAX);
    let mut found = hub.webhooks(&identity, after, limit + 1).await?;
    let has_more = found.len() > usize::from(limit);
    found.truncate(limit.into());
    let next = found.last().filter(|_| has_more).map(|last| paging::encode(&last.id.to_string()));
    let ids: Vec<WebhookId> = found.iter().map(|webhook| webhook.id).collect();
    let mut activity = hub.webhook_activity(&identity, &ids).await?;
    let webhooks = found.iter().map(|webhook| with_activity(webhook, &mut activity)).collect();
    Ok(JsonBody(WebhookList { webhooks, next }))
}

/// Returns a webhook.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook}", operation_id = "getWebhook", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookShown),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<WebhookShown>, ApiError> {
    let webhook = hub.webhook(&identity, id_of(names)?).await?;
    let mut activity = hub.webhook_activity(&identity, &[webhook.id]).await?;
    Ok(JsonBody(with_activity(&webhook, &mut activity)))
}

/// Changes, pauses or resumes a webhook.
#[utoipa::path(
    patch, path = "/v1/webhooks/{webhook}", operation_id = "changeWebhook", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook")),
    request_body = WebhookPatch,
    responses(
        (status = 200, description = "The webhook", body = WebhookShown),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn change(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<JsonBody<WebhookShown>, ApiError> {
    let webhook = hub.change_webhook(&identity, id_of(names)?, request(&body)?).await?;
    Ok(JsonBody(shown(&webhook, None)))
}

/// Removes a webhook with its deliveries.
#[utoipa::path(
    delete, path = "/v1/webhooks/{webhook}", operation_id = "removeWebhook", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook")),
    responses(
        (status = 204, description = "The webhook is gone"),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    hub.remove_webhook(&identity, id_of(names)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new secret. The one before signs as well for 24 hours.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook}/rotate", operation_id = "rotateSecret", tag = "webhooks", security(("bearer" = [])),
    params(("webhook" = String, Path, description = "Id of the webhook")),
    responses(
        (status = 200, description = "The new secret", body = NewSecret),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such webhook", body = ErrorResponse),
        (status = 409, description = "Too many secrets sign at present", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn rotate(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<NewSecret>, ApiError> {
    let secret = hub.rotate_secret(&identity, id_of(names)?).await?;
    Ok(JsonBody(NewSecret::of(&secret)))
}

fn request(body: &[u8]) -> Result<WebhookRequest, ApiError> {
    let mut fields = BodyFields::read(body)?;
    Ok(WebhookRequest {
        url: fields.text("url")?,
        events: fields.texts("events")?,
        ordered: fields.boolean("ordered")?,
        paused: fields.boolean("paused")?,
    })
}

/// Reads the id in a path. What is no id is the id of no webhook.
pub(super) fn id_of(Names((id,)): Names<(String,)>) -> Result<WebhookId, ApiError> {
    let no_such_webhook = || CommandError::new(ErrorCode::NotFound, "no such webhook");
    WebhookId::parse(&id).ok_or_else(|| no_such_webhook().into())
}

fn shown(webhook: &Webhook, secret: Option<&Secret>) -> WebhookShown {
    WebhookShown {
        webhook: webhook.id.to_string(),
        url: webhook.endpoint.as_str().to_owned(),
        events: webhook.events.names(),
        ordered: webhook.ordered,
        state: if webhook.paused { "paused" } else { "active" },
        failing_since: webhook.failing_since_ms.map(Timestamp),
        created_at: Timestamp(webhook.created_at_ms),
        waiting: None,
        recent: None,
        secret: secret.map(Secret::expose),
    }
}

/// Shows a webhook with what goes on there.
fn with_activity(webhook: &Webhook, activity: &mut Vec<WebhookActivity>) -> WebhookShown {
    // A webhook that was removed meanwhile has none.
    let place = activity.iter().position(|activity| activity.webhook == webhook.id);
    let (waiting, attempts) = place.map_or((0, Vec::new()), |place| {
        let WebhookActivity { waiting, attempts, .. } = activity.swap_remove(place);
        (waiting, attempts)
    });
    let recent = attempts.into_iter().map(RecentAttempt::from).collect();
    WebhookShown { waiting: Some(waiting), recent: Some(recent), ..shown(webhook, None) }
}

impl From<AnsweredAttempt> for RecentAttempt {
    fn from(attempt: AnsweredAttempt) -> RecentAttempt {
        RecentAttempt {
            delivery: attempt.event.to_string(),
            r#type: attempt.kind,
            state: attempt.state.as_str(),
            status: attempt.status,
            reason: attempt.reason,
            attempted_at: Timestamp(attempt.ended_at_ms),
        }
    }
}

//! Hooks that ask first: backends that decide before something happens.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use starling_hub::{HookRequest, Hub};
use starling_webhook_service::webhooks::{HOOK_TIMEOUT_MAX, Hook, Secret};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::fields::{BodyFields, required};
use super::names::Names;
use super::webhooks::NewSecret;

/// Hook to set.
#[derive(ToSchema)]
#[schema(example = json!({"url": "https://app.example/hooks/send", "timeout_ms": 500, "on_failure": "refuse"}))]
#[expect(dead_code, reason = "describes what `put` reads")]
pub(super) struct HookSettings {
    /// Address that is asked: `https://…`, or `http://…` in a network that the operator allows.
    #[schema(max_length = 2048)]
    url: String,
    /// Time that the backend has for its answer, in milliseconds.
    #[schema(minimum = 1, maximum = 5000, default = 1000)]
    timeout_ms: Option<u16>,
    /// What happens if it gives no usable answer in that time.
    #[schema(value_type = Option<OnFailureName>)]
    on_failure: Option<String>,
}

/// Point at which a backend decides.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `HookPoint` of the webhooks crate, which knows no OpenAPI")]
pub(super) enum HookPointName {
    Connect,
    Create,
    Join,
    Send,
    Publish,
    Subscribe,
}

/// What happens if a backend can't decide.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `OnFailure` of the webhooks crate, which knows no OpenAPI")]
pub(super) enum OnFailureName {
    /// The client gets `unavailable`.
    Refuse,
    /// It happens.
    Allow,
}

/// Hook that is asked before something happens.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "point": "send", "url": "https://app.example/hooks/send", "timeout_ms": 500, "on_failure": "refuse"
}))]
pub(super) struct HookShown {
    /// What the backend decides about.
    #[schema(value_type = HookPointName)]
    point: &'static str,
    /// Address that is asked.
    url: String,
    /// Time that the backend has, in milliseconds.
    #[schema(minimum = 1, maximum = 5000)]
    timeout_ms: u64,
    /// What happens if it gives no usable answer in that time.
    #[schema(value_type = OnFailureName)]
    on_failure: &'static str,
    /// Secret that signs the requests. Only the answer that made the hook has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
}

/// Hooks of the tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct HookList {
    /// Hooks, in the order of the names of their points.
    hooks: Vec<HookShown>,
    /// Always null: a tenant has at most one hook for each point.
    #[schema(required)]
    next: Option<String>,
}

/// Sets the hook of a point: from now on its backend is asked before that happens.
///
/// The first time, the answer has the secret that signs the requests. A hook that is changed keeps its secret. Other nodes follow within about a second.
#[utoipa::path(
    put, path = "/v1/hooks/{point}", operation_id = "putHook", tag = "hooks", security(("bearer" = [])),
    params(("point" = HookPointName, Path, description = "What the backend decides about")),
    request_body = HookSettings,
    responses(
        (status = 201, description = "The hook is new; with its secret", body = HookShown),
        (status = 200, description = "The hook has been changed", body = HookShown),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
    WholeBody(body): WholeBody,
) -> Result<(StatusCode, JsonBody<HookShown>), ApiError> {
    let (Names((point,)), mut fields) = (names, BodyFields::read(&body)?);
    let timeout_ms_max = u16::try_from(HOOK_TIMEOUT_MAX.as_millis()).unwrap_or(u16::MAX);
    let timeout_ms = fields.integer("timeout_ms", 1..=timeout_ms_max)?;
    let request = HookRequest {
        point,
        url: required("url", fields.text("url")?)?,
        timeout: timeout_ms.map(|ms| Duration::from_millis(ms.into())),
        on_failure: fields.text("on_failure")?,
    };
    let (hook, secret) = hub.put_hook(&identity, request).await?;
    let status = if secret.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, JsonBody(shown(&hook, secret.as_ref()))))
}

/// Lists the hooks of the tenant.
#[utoipa::path(
    get, path = "/v1/hooks", operation_id = "listHooks", tag = "hooks", security(("bearer" = [])),
    responses(
        (status = 200, description = "The hooks", body = HookList),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
) -> Result<JsonBody<HookList>, ApiError> {
    let hooks = hub.hooks(&identity).await?;
    Ok(JsonBody(HookList { hooks: hooks.iter().map(|hook| shown(hook, None)).collect(), next: None }))
}

/// Gives the hook of a point a new secret. The one before signs as well for 24 hours.
#[utoipa::path(
    post, path = "/v1/hooks/{point}/rotate", operation_id = "rotateHookSecret", tag = "hooks", security(("bearer" = [])),
    params(("point" = HookPointName, Path, description = "What the backend decides about")),
    responses(
        (status = 200, description = "The new secret", body = NewSecret),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "There is no hook at this point", body = ErrorResponse),
        (status = 409, description = "The secret before still signs", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn rotate(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<JsonBody<NewSecret>, ApiError> {
    let Names((point,)) = names;
    let secret = hub.rotate_hook_secret(&identity, &point).await?;
    Ok(JsonBody(NewSecret::of(&secret)))
}

/// Removes the hook of a point: nobody is asked any more.
#[utoipa::path(
    delete, path = "/v1/hooks/{point}", operation_id = "removeHook", tag = "hooks", security(("bearer" = [])),
    params(("point" = HookPointName, Path, description = "What the backend decides about")),
    responses(
        (status = 204, description = "The hook is gone"),
        (status = 403, description = "The token lacks the scope `webhooks`", body = ErrorResponse),
        (status = 404, description = "There is no hook at this point", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((point,)) = names;
    hub.remove_hook(&identity, &point).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(hook: &Hook, secret: Option<&Secret>) -> HookShown {
    HookShown {
        point: hook.point.as_str(),
        url: hook.endpoint.as_str().to_owned(),
        timeout_ms: u64::try_from(hook.timeout.as_millis()).unwrap_or(u64::MAX),
        on_failure: hook.on_failure.as_str(),
        secret: secret.map(Secret::expose),
    }
}

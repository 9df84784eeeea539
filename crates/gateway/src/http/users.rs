//! The presence of a user.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use starling_hub::Hub;
use starling_model::UserName;
use starling_wire::protocol::Timestamp;
use utoipa::ToSchema;

use super::auth::Caller;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::{Name, Names};

/// Presence of a user.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"user": "bob", "online": false, "devices": 0, "last_seen": "2026-11-21T10:15:00.000Z"}))]
pub(super) struct UserPresence {
    /// Name of the user.
    #[schema(value_type = Name)]
    user: UserName,
    /// Whether the user is connected to any node.
    online: bool,
    /// Number of the user's sessions.
    devices: u32,
    /// When the user was last online, if offline and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    last_seen: Option<Timestamp>,
}

/// Returns whether a user is connected.
///
/// For the user, for users who share a conversation with them, and for the scope `admin`.
#[utoipa::path(
    get, path = "/v1/users/{user}/presence", operation_id = "getUserPresence", tag = "users", security(("bearer" = [])),
    params(("user" = Name, Path, description = "Name of the user")),
    responses(
        (status = 200, description = "The user's presence", body = UserPresence),
        (status = 404, description = "The user does not exist, or shares no conversation with the caller", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn presence(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(UserName,)>,
) -> Result<Json<UserPresence>, ApiError> {
    let Names((user,)) = names;
    let found = hub.user_presence(&identity, &user).await?;
    let starling_hub::UserPresence { user, online, devices, last_seen } = found;
    Ok(Json(UserPresence { user, online, devices, last_seen }))
}

//! Conversations and their members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use starling_hub::{ConversationView, Hub};
use starling_model::{ConversationName, UserName};
use starling_wire::protocol::{self, Timestamp, decode_create, decode_patch};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::{Name, Names};
use super::paging::{self, PageParams, Params};

/// Conversation to create.
#[derive(ToSchema)]
#[schema(example = json!({"conversation": "picnic", "title": "Picnic on Sunday", "members": ["bob"]}))]
#[expect(dead_code, reason = "describes what `decode_create` reads")]
pub(super) struct NewConversation {
    /// Name; if absent, the node generates one.
    conversation: Option<Name>,
    /// Title, shown to people, at most 1 KiB.
    #[schema(max_length = 1024)]
    title: Option<String>,
    /// Members besides the caller; at most 1,000.
    #[schema(max_items = 1000)]
    members: Option<Vec<Name>>,
    /// The application's own data, at most 16 KiB as compact JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// Changes to a conversation. An absent field stays, `null` removes it.
#[derive(ToSchema)]
#[schema(example = json!({"title": "Picnic on Monday"}))]
#[expect(dead_code, reason = "describes what `decode_patch` reads")]
pub(super) struct ConversationPatch {
    /// Title, shown to people, at most 1 KiB.
    #[schema(max_length = 1024)]
    title: Option<String>,
    /// The application's own data, at most 16 KiB as compact JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
}

/// Result of creating a conversation.
#[derive(ToSchema)]
#[schema(example = json!({"conversation": "picnic", "created": true}))]
#[expect(dead_code, reason = "describes `protocol::Created`, which knows no OpenAPI")]
pub(super) struct Created {
    /// Name of the conversation.
    conversation: Name,
    /// `false` if the conversation existed already and the caller is a member.
    created: bool,
}

/// Conversation with its members and its newest seq.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "conversation": "picnic", "title": "Picnic on Sunday", "owner": "alice",
    "created_at": "2026-11-21T10:15:00.000Z", "head": 3, "members": ["alice", "bob"]
}))]
pub(super) struct Conversation {
    /// Name of the conversation.
    #[schema(value_type = Name)]
    conversation: ConversationName,
    /// Title, shown to people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024, nullable = false)]
    title: Option<String>,
    /// The application's own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<protocol::Json>,
    /// User who owns the conversation.
    #[schema(value_type = Name)]
    owner: UserName,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Number of the newest message; 0 if there is none.
    head: u64,
    /// Members; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Name>>, nullable = false)]
    members: Option<Vec<UserName>>,
}

/// Page of a user's conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct ConversationList {
    /// Conversations, most recently active first.
    conversations: Vec<Conversation>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

impl From<ConversationView> for Conversation {
    fn from(view: ConversationView) -> Conversation {
        let ConversationView { conversation, title, metadata, owner, created_at, head, members } = view;
        Conversation { conversation, title, metadata, owner, created_at, head: head.get(), members }
    }
}

/// Creates a conversation. The caller becomes its owner and a member.
///
/// Needs the scope `conversations:create` or `admin`. Repeating it is harmless: a member of the existing conversation gets 200.
#[utoipa::path(
    post, path = "/v1/conversations", operation_id = "createConversation", tag = "conversations", security(("bearer" = [])),
    request_body = NewConversation,
    responses(
        (status = 201, description = "The conversation has been created", body = Created,
            headers(("Location" = String, description = "Path of the conversation"))),
        (status = 200, description = "The conversation existed already, and the caller is a member", body = Created),
        (status = 403, description = "The token lacks the scope", body = ErrorResponse),
        (status = 409, description = "The conversation existed already, and the caller is not a member", body = ErrorResponse),
        (status = 413, description = "A field or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    WholeBody(body): WholeBody,
) -> Result<Response, ApiError> {
    let create = decode_create(&body)?;
    let created = hub.post_conversation(&identity, create).await?;
    let is_new = created.created;
    let location = HeaderValue::from_str(&format!("/v1/conversations/{}", created.conversation));
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(created)).into_response();
    if let (true, Ok(location)) = (is_new, location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Lists the conversations that the caller is a member of, most recently active first.
#[utoipa::path(
    get, path = "/v1/conversations", operation_id = "listConversations", tag = "conversations", security(("bearer" = [])),
    params(PageParams),
    responses((status = 200, description = "A page of conversations", body = ConversationList), Failures),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(page): Params<PageParams>,
) -> Result<Json<ConversationList>, ApiError> {
    let cursor = page.position()?.as_deref().map(paging::decode_conversations).transpose()?;
    let found = hub.list_conversations(&identity, cursor, page.limit()?).await?;
    Ok(Json(ConversationList {
        conversations: found.conversations.into_iter().map(Conversation::from).collect(),
        next: found.next.map(paging::encode_conversations),
    }))
}

/// Returns a conversation and its members; for members and the scope `admin`.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}", operation_id = "getConversation", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = Name, Path, description = "Name of the conversation")),
    responses(
        (status = 200, description = "The conversation", body = Conversation),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName,)>,
) -> Result<Json<Conversation>, ApiError> {
    let Names((conversation,)) = names;
    Ok(Json(hub.conversation(&identity, &conversation).await?.into()))
}

/// Changes title and metadata; for the owner and the scope `admin`.
#[utoipa::path(
    patch, path = "/v1/conversations/{conversation}", operation_id = "changeConversation", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = Name, Path, description = "Name of the conversation")),
    request_body = ConversationPatch,
    responses(
        (status = 200, description = "The conversation after the change", body = Conversation),
        (status = 403, description = "The caller is a member but not the owner", body = ErrorResponse),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        (status = 413, description = "A field or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn change(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName,)>,
    WholeBody(body): WholeBody,
) -> Result<Json<Conversation>, ApiError> {
    let Names((conversation,)) = names;
    let patch = decode_patch(&body)?;
    let changed = hub.change_conversation(&identity, &conversation, patch.title, patch.metadata).await?;
    Ok(Json(changed.into()))
}

/// Deletes a conversation with its messages; for the owner and the scope `admin`.
#[utoipa::path(
    delete, path = "/v1/conversations/{conversation}", operation_id = "deleteConversation", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = Name, Path, description = "Name of the conversation")),
    responses(
        (status = 204, description = "The conversation has been deleted"),
        (status = 403, description = "The caller is a member but not the owner", body = ErrorResponse),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName,)>,
) -> Result<StatusCode, ApiError> {
    let Names((conversation,)) = names;
    hub.delete_conversation(&identity, &conversation).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a member; for the owner and the scope `admin`. Repeating it is harmless.
#[utoipa::path(
    put, path = "/v1/conversations/{conversation}/members/{user}", operation_id = "addMember", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = Name, Path, description = "Name of the conversation"),
        ("user" = Name, Path, description = "Name of the user"),
    ),
    responses(
        (status = 200, description = "The conversation after the change", body = Conversation),
        (status = 403, description = "The caller is a member but not the owner", body = ErrorResponse),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        (status = 413, description = "The conversation has reached its number of members", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn add_member(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName, UserName)>,
) -> Result<Json<Conversation>, ApiError> {
    let Names((conversation, user)) = names;
    hub.add_member(&identity, &conversation, &user).await?;
    Ok(Json(hub.conversation(&identity, &conversation).await?.into()))
}

/// Removes a member; for the owner, the scope `admin`, and the member itself.
#[utoipa::path(
    delete, path = "/v1/conversations/{conversation}/members/{user}", operation_id = "removeMember", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = Name, Path, description = "Name of the conversation"),
        ("user" = Name, Path, description = "Name of the user"),
    ),
    responses(
        (status = 204, description = "The user is no longer a member"),
        (status = 403, description = "The caller is a member, but neither the owner nor the one to remove", body = ErrorResponse),
        (status = 404, description = "The conversation or the member does not exist, or the caller is not a member", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn remove_member(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName, UserName)>,
) -> Result<StatusCode, ApiError> {
    let Names((conversation, user)) = names;
    hub.remove_member(&identity, &conversation, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

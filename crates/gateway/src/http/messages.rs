//! A conversation's log: pages of it, and what is added by HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use starling_conversation_store::Role;
use starling_hub::{Hub, Posted};
use starling_model::ConversationName;
use starling_wire::protocol::{self, History, HistoryPage, PostedMessage, decode_send};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::{Name, Names};
use super::paging::{self, Params};

/// Largest number that a client can send, 2^53-1, as over WebSocket.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// Part of the log to read: at most one of `before` and `after`; without them, the newest messages.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Return the newest messages with smaller numbers.
    #[param(nullable = false, maximum = 9007199254740991_i64)]
    before: Option<u64>,
    /// Return the oldest messages with greater numbers.
    #[param(nullable = false, maximum = 9007199254740991_i64)]
    after: Option<u64>,
    /// Most messages in the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Message to add.
#[derive(ToSchema)]
#[schema(example = json!({"key": "order-1042-shipped", "content": "Your order is on its way."}))]
#[expect(dead_code, reason = "describes what `decode_send` reads")]
pub(super) struct NewMessage {
    /// Idempotency key, 1 to 64 characters. If it was used before, nothing is added, and the response describes the first message.
    #[schema(min_length = 1, max_length = 64)]
    key: String,
    /// Text, at most 64 KiB.
    #[schema(max_length = 65536)]
    content: String,
    /// The application's own data, at most 16 KiB as compact JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    /// User shown as the sender, member or not; needs the scope `admin`.
    sender: Option<Name>,
    /// Role of the sender; needs the scope `admin`.
    role: Option<MessageRole>,
}

/// Role of a message's sender.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes `Role` of the conversation store, which knows no OpenAPI")]
pub(super) enum MessageRole {
    User,
    Assistant,
    System,
    Tool,
}

/// Position of a message in the log.
#[derive(ToSchema)]
#[schema(example = json!({
    "id": "019353a0-7c00-7abc-8def-0123456789ab", "seq": 4, "at": "2026-11-21T10:15:00.000Z", "duplicate": false
}))]
#[expect(dead_code, reason = "describes `protocol::Sent`, which knows no OpenAPI")]
pub(super) struct Sent {
    /// Id of the message.
    #[schema(format = "uuid")]
    id: String,
    /// Number of the message in the conversation, from 1.
    #[schema(minimum = 1)]
    seq: u64,
    /// Time of the commit.
    #[schema(format = DateTime)]
    at: String,
    /// Whether the key was used before. Then this is the position of the first message.
    duplicate: bool,
}

/// Page of the log.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes `protocol::HistoryPage`, which knows no OpenAPI")]
pub(super) struct MessagePage {
    /// Messages in ascending order. A page ends early at 1 MiB.
    messages: Vec<Message>,
    /// Whether further messages exist in the direction of reading.
    more: bool,
}

/// Message of a conversation.
#[derive(ToSchema)]
#[schema(example = json!({
    "conversation": "picnic", "seq": 4, "id": "019353a0-7c00-7abc-8def-0123456789ab", "sender": "alice",
    "role": "user", "content": "Who brings bread?", "at": "2026-11-21T10:15:00.000Z"
}))]
#[expect(dead_code, reason = "describes `protocol::Message`, which knows no OpenAPI")]
pub(super) struct Message {
    /// Name of the conversation.
    conversation: Name,
    /// Number of the message in the conversation, from 1.
    #[schema(minimum = 1)]
    seq: u64,
    /// Id of the message.
    #[schema(format = "uuid")]
    id: String,
    /// User shown as the sender.
    sender: Name,
    /// Role of the sender.
    role: MessageRole,
    /// Text, at most 64 KiB.
    #[schema(max_length = 65536)]
    content: String,
    /// The application's own data.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<serde_json::Value>,
    /// Time of the commit.
    #[schema(format = DateTime)]
    at: String,
}

/// Reads a page of the log; for members and the scope `admin`.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}/messages", operation_id = "listMessages", tag = "messages", security(("bearer" = [])),
    params(("conversation" = Name, Path, description = "Name of the conversation"), LogParams),
    responses(
        (status = 200, description = "A page of messages", body = MessagePage),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName,)>,
    Params(params): Params<LogParams>,
) -> Result<Json<HistoryPage>, ApiError> {
    let Names((conversation,)) = names;
    let history = params.history(conversation)?;
    Ok(Json(hub.messages(&identity, &history).await?))
}

/// Adds a message. The response is sent after the commit; repeating the request with the same key is harmless.
///
/// For members; with the scope `admin`, into any conversation and as any sender and role.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation}/messages", operation_id = "postMessage", tag = "messages", security(("bearer" = [])),
    params(("conversation" = Name, Path, description = "Name of the conversation")),
    request_body = NewMessage,
    responses(
        (status = 201, description = "The message is in the log", body = Sent),
        (status = 200, description = "A message with this key was already in the log", body = Sent),
        (status = 403, description = "`sender` or `role` without the scope `admin`", body = ErrorResponse),
        (status = 404, description = "The conversation does not exist, or the caller is not a member", body = ErrorResponse),
        (status = 413, description = "A field or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn post(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(ConversationName,)>,
    WholeBody(body): WholeBody,
) -> Result<(StatusCode, Json<protocol::Sent>), ApiError> {
    let Names((conversation,)) = names;
    let PostedMessage { send, sender, role } = decode_send(&conversation, &body)?;
    let role = role.as_deref().map(parse_role).transpose()?;
    let sent = hub.post(&identity, Posted { send, sender, role }).await?;
    let status = if sent.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(sent)))
}

impl LogParams {
    fn history(self, conversation: ConversationName) -> Result<History, ApiError> {
        let LogParams { before, after, limit } = self;
        for (field, seq) in [("before", before), ("after", after)] {
            if seq.is_some_and(|seq| seq > SEQ_MAX) {
                return Err(ApiError::bad_request(format!("`{field}` must be an integer from 0 to 2^53-1")));
            }
        }
        if before.is_some() && after.is_some() {
            return Err(ApiError::bad_request("only one of `before` and `after` may be given"));
        }
        Ok(History { conversation, before, after, limit: paging::limit(limit)? })
    }
}

fn parse_role(name: &str) -> Result<Role, ApiError> {
    Role::parse(name)
        .ok_or_else(|| ApiError::bad_request("`role` must be `user`, `assistant`, `system` or `tool`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(before: Option<u64>, after: Option<u64>, limit: Option<u32>) -> LogParams {
        LogParams { before, after, limit }
    }

    #[test]
    fn parts_of_the_log_are_asked_for_as_over_websocket() {
        let history = params(Some(9), None, None).history("picnic".into()).expect("good");
        assert_eq!((history.before, history.after, history.limit), (Some(9), None, 50));
        assert!(params(None, Some(SEQ_MAX), Some(200)).history("picnic".into()).is_ok());
        for bad in [
            params(Some(1), Some(1), None),
            params(Some(SEQ_MAX + 1), None, None),
            params(None, Some(u64::MAX), None),
            params(None, None, Some(0)),
            params(None, None, Some(201)),
        ] {
            assert!(bad.history("picnic".into()).is_err());
        }
    }
}

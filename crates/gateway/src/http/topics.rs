//! Publications on topics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use starling_hub::Hub;
use starling_model::TopicName;
use starling_wire::protocol::{TopicPosition, decode_publish};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::WholeBody;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::{Name, Names};

/// Publication to publish.
#[derive(ToSchema)]
#[schema(example = json!({"data": {"price": 42}}))]
#[expect(dead_code, reason = "describes what `decode_publish` reads")]
pub(super) struct NewPublication {
    /// Any JSON value, at most 64 KiB as compact JSON.
    data: serde_json::Value,
}

/// Position of a publication in its topic.
#[derive(ToSchema)]
#[schema(example = json!({"epoch": "8f14e45fceea167a", "offset": 7}))]
#[expect(dead_code, reason = "describes `protocol::TopicPosition`, which knows no OpenAPI")]
pub(super) struct Publication {
    /// Epoch of the numbering. If it changes, earlier offsets are void.
    epoch: String,
    /// Number of the publication in this epoch, from 1.
    #[schema(minimum = 1)]
    offset: u64,
}

/// Publishes on a topic.
///
/// The token's scope must allow it: `publish:NAME`, `publish:PREFIX*` or `admin`.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/publications", operation_id = "publish", tag = "topics", security(("bearer" = [])),
    params(("topic" = Name, Path, description = "Name of the topic")),
    request_body = NewPublication,
    responses(
        (status = 201, description = "It has been published", body = Publication),
        (status = 403, description = "The token does not allow this topic", body = ErrorResponse),
        (status = 413, description = "`data` or the body is too large", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn publish(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(TopicName,)>,
    WholeBody(body): WholeBody,
) -> Result<(StatusCode, Json<TopicPosition>), ApiError> {
    let Names((topic,)) = names;
    let data = decode_publish(&body)?;
    Ok((StatusCode::CREATED, Json(hub.publish_to_topic(&identity, &topic, &data).await?)))
}

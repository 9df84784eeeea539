//! Calls for operators: lists of nodes and sessions, for the scope `admin`; and draining nodes, for the scope `operate`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use starling_hub::Hub;
use starling_model::UserName;
use starling_wire::protocol::Timestamp;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::error::{ApiError, ErrorResponse, Failures};
use super::names::{Name, Names};
use super::paging::{self, PageParams, Params};

/// Page of the cluster's nodes.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeList {
    /// Nodes in the order of their names.
    nodes: Vec<Node>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Node, as reported in its last beat, about a second ago.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "node": "node-1", "roles": ["gateway", "worker"], "address": "10.0.0.5:8080", "connections": 1200,
    "sessions": 1250, "version": "0.1.0",
    "started_at": "2026-11-21T10:15:00.000Z", "draining": false, "messages": 48000, "deliveries": 960000,
    "delivery_p50_us": 600, "delivery_p99_us": 3200
}))]
pub(super) struct Node {
    /// Name of the node.
    #[schema(value_type = Name)]
    node: String,
    /// Roles of the node: `gateway` takes clients, `worker` works in the background.
    roles: Vec<String>,
    /// Address of the node, if the setting `address` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    /// Number of open connections.
    connections: u64,
    /// Number of sessions, including those whose connection dropped less than 10 s ago.
    sessions: u64,
    /// Version of the program.
    version: String,
    /// Start time of the node.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// Whether the node is draining.
    draining: bool,
    /// Messages committed by the node since its start.
    messages: u64,
    /// Events delivered to connections since the node's start.
    deliveries: u64,
    /// Median time from commit to connection in the last seconds, in microseconds.
    delivery_p50_us: u64,
    /// 99th percentile of the same time.
    delivery_p99_us: u64,
}

/// Page of sessions.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionList {
    /// Sessions of the caller's tenant.
    sessions: Vec<Session>,
    /// Cursor of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Session of a user.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "session": "019353a0-7c00-7abc-8def-0123456789ab", "user": "bob", "node": "node-1", "attached": true,
    "created_at": "2026-11-21T10:15:00.000Z"
}))]
pub(super) struct Session {
    /// Id of the session.
    #[schema(value_type = Name)]
    session: String,
    /// User of the session.
    #[schema(value_type = Name)]
    user: UserName,
    /// Node that the session is or was attached to.
    #[schema(value_type = Name)]
    node: String,
    /// Whether the session has a connection now.
    attached: bool,
    /// Time of creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Filter and page of a list of sessions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionParams {
    /// Only list the sessions of this user; otherwise those of the whole tenant.
    #[param(value_type = Option<Name>, nullable = false)]
    user: Option<String>,
    /// `next` of the previous page; absent or empty for the first page.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// Most entries in the page.
    #[param(nullable = false, minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Lists the running nodes of the cluster.
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "listNodes", tag = "operation", security(("bearer" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of them", body = NodeList),
        (status = 403, description = "The token lacks the scope `admin`", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn nodes(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(page): Params<PageParams>,
) -> Result<Json<NodeList>, ApiError> {
    let (after, limit) = (page.position()?, page.limit()?);
    let records = hub.nodes(&identity).await?;
    let nodes = records.into_iter().map(|record| Node {
        roles: record.roles(),
        node: record.node,
        address: record.address,
        connections: record.connections.unwrap_or(0),
        sessions: record.sessions.unwrap_or(0),
        version: record.version,
        started_at: Timestamp(record.started_at_ms),
        draining: record.draining,
        messages: record.messages,
        deliveries: record.deliveries,
        delivery_p50_us: record.delivery_p50_us,
        delivery_p99_us: record.delivery_p99_us,
    });
    Ok(Json(page_of(nodes, after.as_deref(), limit as usize)))
}

/// Drains and ends a node, as SIGTERM does: it stops being ready, its clients move to other nodes, and the process exits with 0.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/drain", operation_id = "drainNode", tag = "operation", security(("bearer" = [])),
    params(("node" = Name, Path, description = "Name of the node")),
    responses(
        (status = 202, description = "The node has been told"),
        (status = 403, description = "The token lacks the scope `operate`", body = ErrorResponse),
        (status = 404, description = "No running node has that name", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn drain_node(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((node,)) = names;
    hub.drain_node(&identity, &node).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Lists the sessions of the tenant.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "listSessions", tag = "operation", security(("bearer" = [])),
    params(SessionParams),
    responses(
        (status = 200, description = "A page of them", body = SessionList),
        (status = 403, description = "The token lacks the scope `admin`", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn sessions(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    Params(params): Params<SessionParams>,
) -> Result<Json<SessionList>, ApiError> {
    let SessionParams { user, cursor, limit } = params;
    let user = user.as_deref().map(UserName::parse).transpose();
    let user = user.map_err(|_| ApiError::bad_request("`user` must be a name"))?;
    let page = PageParams { cursor, limit };
    let cursor = page.position()?;
    let found = hub.list_sessions(&identity, user.as_ref(), cursor.as_deref(), page.limit()?).await?;
    let sessions = found.sessions.into_iter().map(|session| Session {
        session: session.session,
        user: session.user,
        node: session.node,
        attached: session.attached,
        created_at: Timestamp(session.created_at_ms),
    });
    Ok(Json(SessionList { sessions: sessions.collect(), next: found.next.as_deref().map(paging::encode) }))
}

/// Ends a session: its connection is closed with 4410, and it can no longer be resumed.
#[utoipa::path(
    delete, path = "/v1/sessions/{session}", operation_id = "endSession", tag = "operation", security(("bearer" = [])),
    params(("session" = Name, Path, description = "Id of the session")),
    responses(
        (status = 204, description = "The session has ended"),
        (status = 403, description = "The token lacks the scope `admin`", body = ErrorResponse),
        (status = 404, description = "The tenant has no such session", body = ErrorResponse),
        Failures,
    ),
)]
pub(super) async fn end_session(
    State(hub): State<Arc<Hub>>,
    Caller(identity): Caller,
    names: Names<(String,)>,
) -> Result<StatusCode, ApiError> {
    let Names((session,)) = names;
    hub.end_session(&identity, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the page of nodes, sorted by name, that begins after a name.
fn page_of(nodes: impl Iterator<Item = Node>, after: Option<&str>, limit: usize) -> NodeList {
    let mut rest = nodes.filter(|node| after.is_none_or(|after| *node.node > *after));
    let page: Vec<Node> = rest.by_ref().take(limit).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| paging::encode(&last.node));
    NodeList { nodes: page, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node {
            node: name.to_owned(),
            roles: Vec::new(),
            address: None,
            connections: 0,
            sessions: 0,
            version: "0.1.0".to_owned(),
            started_at: Timestamp(0),
            draining: false,
            messages: 0,
            deliveries: 0,
            delivery_p50_us: 0,
            delivery_p99_us: 0,
        }
    }

    #[test]
    fn nodes_are_paged_by_name() {
        let all = || ["a", "b", "c"].into_iter().map(node);
        let names = |list: &NodeList| list.nodes.iter().map(|node| node.node.clone()).collect::<Vec<_>>();
        let first = page_of(all(), None, 2);
        assert_eq!(names(&first), ["a", "b"]);
        let cursor = PageParams { cursor: first.next, limit: None }.position().expect("ours");
        let second = page_of(all(), cursor.as_deref(), 2);
        assert_eq!((names(&second), second.next), (vec!["c".to_owned()], None));
        assert_eq!(page_of(all(), None, 3).next, None);
    }
}

//! The HTTP API: the same commands as over WebSocket, for servers and operators, and what a node shows of itself.
//!
//! Requests are checked by the same decoders as frames, and every failure is the protocol's error object.

pub(crate) mod auth;
mod body;
pub(crate) mod compression;
mod console;
mod conversations;
pub(crate) mod error;
pub(crate) mod fuzzing;
mod health;
mod kept;
mod messages;
mod names;
mod openapi;
mod operate;
mod paging;
mod topics;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use starling_hub::Hub;

use crate::upgrade::Front;

/// What the HTTP API is made from.
#[derive(Clone)]
pub(crate) struct ApiState {
    /// What the calls mean.
    pub hub: Arc<Hub>,
    /// What the node's port knows about itself.
    pub front: Arc<Front>,
}

impl FromRef<ApiState> for Arc<Hub> {
    fn from_ref(state: &ApiState) -> Arc<Hub> {
        state.hub.clone()
    }
}

/// Everything on the public port but the WebSocket. To be called on the control threads.
pub(crate) fn router(state: ApiState) -> Router {
    let router = api()
        .with_state(state.clone())
        .merge(health::routes(state))
        .merge(console::routes())
        .merge(openapi::routes())
        .method_not_allowed_fallback(error::method_not_allowed)
        .fallback(error::no_such_path)
        .layer(map_response(set_default_headers));
    compression::compressed(router)
}

fn api() -> Router<ApiState> {
    Router::new()
        .route("/v1/conversations", get(conversations::list).post(conversations::create))
        .route(
            "/v1/conversations/{conversation}",
            get(conversations::show).patch(conversations::change).delete(conversations::remove),
        )
        .route(
            "/v1/conversations/{conversation}/members/{user}",
            put(conversations::add_member).delete(conversations::remove_member),
        )
        .route("/v1/conversations/{conversation}/messages", get(messages::list).post(messages::post))
        .route("/v1/topics/{topic}/publications", post(topics::publish))
        .route("/v1/users/{user}/presence", get(users::presence))
        .route("/v1/nodes", get(operate::nodes))
        .route("/v1/sessions", get(operate::sessions))
        .route("/v1/nodes/{node}/drain", post(operate::drain_node))
        .route("/v1/sessions/{session}", delete(operate::end_session))
}

/// Answers are for whoever holds the token, and true for the moment: nobody on the way may keep them.
pub(crate) async fn set_default_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

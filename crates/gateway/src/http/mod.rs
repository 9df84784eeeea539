//! The HTTP API: the same commands as over WebSocket, for servers and operators; and the console page, health, and the API's description.
//!
//! Requests are checked by the same decoders as frames, and every error is the protocol's error object.

pub(crate) mod auth;
mod body;
pub(crate) mod compression;
mod console;
mod conversations;
pub(crate) mod error;
pub(crate) mod fuzzing;
pub(crate) mod headers;
mod health;
mod messages;
mod names;
mod openapi;
mod operate;
mod paging;
pub(crate) mod service;
mod state;
mod topics;
mod users;

use axum::Router;
use axum::middleware::map_response;
use axum::routing::{delete, get, post, put};
pub(crate) use state::ApiState;

/// Routes everything on the public port except the WebSocket. Must be called on the control threads, where large answers are compressed.
pub(crate) fn router(state: ApiState) -> Router {
    let router = api()
        .with_state(state.clone())
        .merge(health::routes(state))
        .merge(console::routes())
        .merge(openapi::routes())
        .method_not_allowed_fallback(error::method_not_allowed)
        .fallback(error::no_such_path)
        .layer(map_response(headers::set_default_headers));
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

//! The HTTP API: the same commands as over WebSocket, for servers and operators; and the console page, health, and the API's description.
//!
//! Requests are checked by the same decoders as frames, and every error is the protocol's error object.

pub(crate) mod auth;
mod body;
pub(crate) mod compression;
mod console;
mod conversations;
mod deliveries;
pub(crate) mod error;
mod fields;
pub(crate) mod fuzzing;
pub(crate) mod headers;
mod health;
mod hooks;
mod jobs;
mod jobs_shown;
mod limits;
mod messages;
mod names;
mod openapi;
mod operate;
mod paging;
mod queues;
mod schedules;
pub(crate) mod service;
mod state;
mod topics;
mod users;
mod webhooks;

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

fn api_of_jobs() -> Router<ApiState> {
    Router::new()
        .route("/v1/jobs", get(jobs_shown::list).post(jobs::enqueue))
        .route("/v1/jobs/count", get(jobs_shown::count))
        .route("/v1/jobs/retry", post(jobs::retry_all))
        .route("/v1/jobs/cancel", post(jobs::cancel_all))
        .route("/v1/jobs/discard", post(jobs::discard_all))
        .route("/v1/jobs/{job}", get(jobs_shown::show))
        .route("/v1/jobs/{job}/extend", post(jobs::extend))
        .route("/v1/jobs/{job}/done", post(jobs::done))
        .route("/v1/jobs/{job}/fail", post(jobs::fail))
        .route("/v1/jobs/{job}/retry", post(jobs::retry))
        .route("/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{job}/discard", post(jobs::discard))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/{schedule}", put(schedules::put).get(schedules::show).delete(schedules::remove))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{queue}/take", post(queues::take))
        .route("/v1/queues/{queue}/pause", post(queues::pause))
        .route("/v1/queues/{queue}/resume", post(queues::resume))
        .route("/v1/queues/{queue}/limits", put(limits::put).get(limits::show).delete(limits::remove))
}

fn api_of_webhooks() -> Router<ApiState> {
    Router::new()
        .route("/v1/hooks", get(hooks::list))
        .route("/v1/hooks/{point}", put(hooks::put).delete(hooks::remove))
        .route("/v1/hooks/{point}/rotate", post(hooks::rotate))
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::add))
        .route("/v1/webhooks/{webhook}", get(webhooks::show).patch(webhooks::change).delete(webhooks::remove))
        .route("/v1/webhooks/{webhook}/rotate", post(webhooks::rotate))
        .route("/v1/webhooks/{webhook}/test", post(deliveries::test))
        .route("/v1/webhooks/{webhook}/deliveries", get(deliveries::list))
        .route("/v1/webhooks/{webhook}/deliveries/{delivery}", get(deliveries::show))
        .route("/v1/webhooks/{webhook}/deliveries/{delivery}/resend", post(deliveries::resend))
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
        .merge(api_of_webhooks())
        .merge(api_of_jobs())
}

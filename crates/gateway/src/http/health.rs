//! What a node says of its health: to people and monitors ([`health`]), and to load balancers ([`ready`]).
//!
//! A node whose database is away still serves sockets, topics and presence: it stays ready, and says that it is degraded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use starling_hub::Hub;
use utoipa::ToSchema;

use super::ApiState;
use super::kept::Kept;

/// How long the database, and Redis, may take for an answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is good for, so that however many probes cost one check.
const CHECK_LIFETIME: Duration = Duration::from_secs(1);

/// The routes of health.
pub(super) fn routes(state: ApiState) -> Router {
    let state = Arc::new(Monitor { state, checks: Kept::new(CHECK_LIFETIME) });
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(state)
}

/// What both routes look at.
pub(super) struct Monitor {
    state: ApiState,
    checks: Kept<Checks>,
}

/// What the node depends on.
#[derive(Clone)]
struct Checks {
    database: Dependency,
    redis: Redis,
}

/// The health of a node.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Whether all that the node depends on answers.
    status: HealthStatus,
    /// The node's name.
    node: String,
    /// The program's version.
    version: String,
    /// Since its start.
    uptime_seconds: u64,
    /// Open sockets.
    connections: u64,
    /// Sessions, those included that still may be resumed here without a trace.
    sessions: u64,
    /// Whether it is on its way out.
    draining: bool,
    /// The database.
    database: Dependency,
    /// Redis.
    redis: Redis,
    /// The pools of connections to the database.
    pools: Vec<Pool>,
}

/// Whether all that the node depends on answers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthStatus {
    /// It does.
    Ok,
    /// Something does not; the node serves what it can without.
    Degraded,
}

/// Something that the node depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Dependency {
    status: DependencyStatus,
    /// How long the answer took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<f64>,
}

/// Whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DependencyStatus {
    /// It does.
    Up,
    /// It refuses, or can't be reached; the node's log says why.
    Down,
    /// It did not answer in time.
    Timeout,
    /// The node works without.
    NotConfigured,
}

/// Redis: sessions, and the link that carries events between nodes.
#[derive(Clone, Serialize, ToSchema)]
struct Redis {
    status: DependencyStatus,
    /// How long the answer took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<f64>,
    /// The link that carries events between nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    link: Option<Link>,
}

/// The link that carries events between nodes.
#[derive(Clone, Serialize, ToSchema)]
struct Link {
    /// Whether events can be sent.
    connected: bool,
    /// Whether every subscription stands.
    subscribed: bool,
    /// Whether the node's own probes come back.
    hears: bool,
}

/// A pool of connections to the database.
#[derive(Serialize, ToSchema)]
struct Pool {
    /// `primary`, `replica`, `writer` or `readers`.
    name: &'static str,
    /// `saturated`: all connections are in use, and callers wait.
    status: PoolStatus,
    /// How many connections it may open.
    size_max: usize,
    /// How many are open.
    size: usize,
    /// How many of these are free.
    idle: usize,
    /// How many callers wait for one.
    waiting: usize,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PoolStatus {
    Ok,
    Saturated,
}

/// Whether a load balancer may send clients here.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"ready": false, "reasons": ["draining"]}))]
pub(super) struct Readiness {
    ready: bool,
    /// Why not.
    reasons: Vec<Reason>,
}

/// Why a node is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It is on its way out.
    Draining,
    /// It does not hear the other nodes: the link through Redis is down, or its own probes do not come back.
    Deaf,
    /// It has no key to verify tokens with: the key set has not been fetched yet, or is empty.
    NoKeys,
}

/// Shows the node's health: 200 while the process works.
#[utoipa::path(
    get, path = "/health", operation_id = "getHealth", tag = "health",
    responses((status = 200, description = "The node's health", body = Health)),
)]
pub(super) async fn health(State(monitor): State<Arc<Monitor>>) -> Json<Health> {
    let ApiState { hub, front } = &monitor.state;
    let Checks { database, redis } = monitor.checks().await;
    let record = hub.record();
    Json(Health {
        status: overall(&database, &redis),
        node: record.node,
        version: record.version,
        uptime_seconds: front.started.elapsed().as_secs(),
        connections: front.connections(),
        sessions: record.sessions.unwrap_or(0),
        draining: front.is_draining(),
        database,
        redis,
        pools: pools(hub),
    })
}

/// Shows whether clients should be sent to this node.
#[utoipa::path(
    get, path = "/ready", operation_id = "getReadiness", tag = "health",
    responses(
        (status = 200, description = "They should", body = Readiness),
        (status = 503, description = "They should not; the reasons say why", body = Readiness),
    ),
)]
pub(super) async fn ready(State(monitor): State<Arc<Monitor>>) -> Response {
    let ApiState { hub, front } = &monitor.state;
    answer(reasons(front.is_draining(), hub.hears(), hub.has_keys()))
}

impl Monitor {
    async fn checks(&self) -> Checks {
        let hub = &self.state.hub;
        let look = async {
            let (database, redis) = tokio::join!(check_database(hub), check_redis(hub));
            Checks { database, redis }
        };
        self.checks.get(look).await
    }
}

async fn check_database(hub: &Hub) -> Dependency {
    timed("database", async { Some(hub.database_health().await) }).await
}

async fn check_redis(hub: &Hub) -> Redis {
    let Dependency { mut status, latency_ms } = timed("redis", hub.session_store_health()).await;
    let link = hub.fanout_health().map(|link| Link {
        connected: link.connected,
        subscribed: link.subscribed,
        hears: hub.hears(),
    });
    if status == DependencyStatus::Up && link.as_ref().is_some_and(|link| !link.hears) {
        status = DependencyStatus::Down;
    }
    Redis { status, latency_ms, link }
}

/// Asks within the time. What went wrong may name hosts and users, so it goes to the log and not to everybody.
async fn timed(name: &'static str, ask: impl Future<Output = Option<Result<(), String>>>) -> Dependency {
    let began = Instant::now();
    let answer = tokio::time::timeout(CHECK_TIMEOUT, ask).await;
    let latency_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let status = match answer {
        Ok(None) => return Dependency { status: DependencyStatus::NotConfigured, latency_ms: None },
        Ok(Some(Ok(()))) => DependencyStatus::Up,
        Ok(Some(Err(error))) => {
            tracing::debug!(dependency = name, error, "a health check failed");
            DependencyStatus::Down
        }
        Err(_) => DependencyStatus::Timeout,
    };
    Dependency { status, latency_ms: Some(latency_ms) }
}

fn pools(hub: &Hub) -> Vec<Pool> {
    let pool = |pool: starling_conversation_store::PoolStatus| Pool {
        name: pool.name,
        status: if pool.waiting > 0 && pool.idle == 0 { PoolStatus::Saturated } else { PoolStatus::Ok },
        size_max: pool.size_max,
        size: pool.size,
        idle: pool.idle,
        waiting: pool.waiting,
    };
    hub.pools().into_iter().map(pool).collect()
}

fn overall(database: &Dependency, redis: &Redis) -> HealthStatus {
    let fine = |status| matches!(status, DependencyStatus::Up | DependencyStatus::NotConfigured);
    if fine(database.status) && fine(redis.status) { HealthStatus::Ok } else { HealthStatus::Degraded }
}

fn reasons(draining: bool, hears: bool, has_keys: bool) -> Vec<Reason> {
    let reasons = [(draining, Reason::Draining), (!hears, Reason::Deaf), (!has_keys, Reason::NoKeys)];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

fn answer(reasons: Vec<Reason>) -> Response {
    if reasons.is_empty() {
        return Json(Readiness { ready: true, reasons }).into_response();
    }
    let body = Json(Readiness { ready: false, reasons });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_unless_it_drains_is_deaf_or_has_no_keys() {
        for (draining, hears, has_keys, status, body) in [
            (false, true, true, 200, r#"{"ready":true,"reasons":[]}"#),
            (true, true, true, 503, r#"{"ready":false,"reasons":["draining"]}"#),
            (false, false, true, 503, r#"{"ready":false,"reasons":["deaf"]}"#),
            (false, true, false, 503, r#"{"ready":false,"reasons":["no_keys"]}"#),
            (true, false, false, 503, r#"{"ready":false,"reasons":["draining","deaf","no_keys"]}"#),
        ] {
            let response = answer(reasons(draining, hears, has_keys));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            let shown = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("body");
            assert_eq!(shown, body);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_hangs_is_not_waited_for() {
        assert_eq!(timed("x", std::future::pending()).await.status, DependencyStatus::Timeout);
        let refused = timed("x", async { Some(Err("no".to_owned())) }).await;
        assert_eq!(refused.status, DependencyStatus::Down);
        assert!(refused.latency_ms.is_some());
        let absent = timed("x", async { None }).await;
        assert_eq!((absent.status, absent.latency_ms), (DependencyStatus::NotConfigured, None));
    }
}

//! A node's health, for people and monitors ([`health`]) and for load balancers ([`ready`]).
//!
//! Both distinguish a degraded node from one that can't serve. Without its database a node still serves connections, topics and
//! presence, and without Redis it serves from the log: it stays ready, but degraded, while no other node is known to do better.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use starling_hub::{Hub, NodeHealth};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::cached::Cached;
use super::state::ApiState;

/// Limit on the time in which the database, or Redis, has to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is kept, so that any number of probes cost one check.
const CHECK_LIFETIME: Duration = Duration::from_secs(1);

/// The routes of health.
pub(super) fn routes(state: ApiState) -> Router {
    let state = Arc::new(Monitor { state, checks: Cached::new(CHECK_LIFETIME) });
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(state)
}

/// The state of both routes.
pub(super) struct Monitor {
    state: ApiState,
    checks: Cached<Checks>,
}

/// The services that the node depends on.
#[derive(Clone)]
struct Checks {
    database: Dependency,
    redis: Redis,
}

/// The health of a node.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// How well the node serves.
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

/// How well a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthStatus {
    /// All that it depends on answers.
    Ok,
    /// The database or Redis does not answer, or Redis is full; the node serves what it can without.
    Degraded,
    /// It can't serve, or others serve better: `GET /ready` says why.
    Unfit,
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
    /// Redis has no memory for anything new (`maxmemory`), and evicts nothing.
    Full,
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
    /// `appends`, `primary`, `replica`, `writer` or `readers`.
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
    /// Why not; or that it is ready and `degraded`.
    reasons: Vec<Reason>,
}

/// Why a node is not ready, or not quite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It is on its way out.
    Draining,
    /// It does not hear the other nodes through Redis, and some of them hear each other; or it has just been started and does not
    /// know yet.
    Deaf,
    /// It reaches neither Redis nor the database.
    CutOff,
    /// It has no key to verify tokens with: the key set has not been fetched yet, or is empty.
    NoKeys,
    /// It is ready, and serves what it can: it does not hear the other nodes through Redis, but none is known to do better; or the other
    /// reason says why.
    Degraded,
    /// Redis has no memory for anything new. The node is ready and `degraded`.
    RedisFull,
}

/// Shows the node's health: 200 while the process works.
#[utoipa::path(
    get, path = "/health", operation_id = "getHealth", tag = "health",
    responses((status = 200, description = "The node's health", body = Health)),
)]
pub(super) async fn health(State(monitor): State<Arc<Monitor>>) -> Json<Health> {
    let ApiState { hub, lifecycle } = &monitor.state;
    let Checks { database, redis } = monitor.checks().await;
    let record = hub.record();
    Json(Health {
        status: overall(&database, &redis, hub.node_health(), hub.has_keys()),
        node: record.node,
        version: record.version,
        uptime_seconds: lifecycle.uptime().as_secs(),
        connections: hub.gauges().connections.load(Ordering::Relaxed),
        sessions: record.sessions.unwrap_or(0),
        draining: lifecycle.is_draining(),
        database,
        redis,
        pools: pools(hub),
    })
}

/// Shows whether clients should be sent to this node.
#[utoipa::path(
    get, path = "/ready", operation_id = "getReadiness", tag = "health",
    responses(
        (status = 200, description = "They should; the reason `degraded` says that it serves with less", body = Readiness),
        (status = 503, description = "They should not; the reasons say why", body = Readiness),
    ),
)]
pub(super) async fn ready(State(monitor): State<Arc<Monitor>>) -> Response {
    let ApiState { hub, lifecycle } = &monitor.state;
    answer(&reasons(lifecycle.is_draining(), hub.node_health(), hub.has_keys(), hub.session_store_is_full()))
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
    if status == DependencyStatus::Down && hub.session_store_is_full() {
        status = DependencyStatus::Full;
    }
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

/// Asks a dependency, within the limit. Its error may name hosts and users, so it goes to the log and not to the caller.
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

fn overall(database: &Dependency, redis: &Redis, health: NodeHealth, has_keys: bool) -> HealthStatus {
    let fine = |status| matches!(status, DependencyStatus::Up | DependencyStatus::NotConfigured);
    if !health.serves() || !has_keys {
        HealthStatus::Unfit
    } else if fine(database.status) && fine(redis.status) && health == NodeHealth::Healthy {
        HealthStatus::Ok
    } else {
        HealthStatus::Degraded
    }
}

fn reasons(draining: bool, health: NodeHealth, has_keys: bool, is_full: bool) -> Vec<Reason> {
    let reasons = [
        (draining, Reason::Draining),
        (health == NodeHealth::Deaf, Reason::Deaf),
        (health == NodeHealth::CutOff, Reason::CutOff),
        (!has_keys, Reason::NoKeys),
        (health == NodeHealth::Degraded || is_full, Reason::Degraded),
        (is_full, Reason::RedisFull),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

fn answer(reasons: &[Reason]) -> Response {
    let ready = reasons.iter().all(|reason| matches!(reason, Reason::Degraded | Reason::RedisFull));
    let body = Json(Readiness { ready, reasons: reasons.to_vec() });
    if ready {
        return body.into_response();
    }
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_unless_it_drains_has_no_keys_or_others_serve_better() {
        use NodeHealth::{CutOff, Deaf, Degraded, Healthy};
        for (draining, health, has_keys, status, body) in [
            (false, Healthy, true, 200, r#"{"ready":true,"reasons":[]}"#),
            (false, Degraded, true, 200, r#"{"ready":true,"reasons":["degraded"]}"#),
            (true, Healthy, true, 503, r#"{"ready":false,"reasons":["draining"]}"#),
            (false, Deaf, true, 503, r#"{"ready":false,"reasons":["deaf"]}"#),
            (false, CutOff, true, 503, r#"{"ready":false,"reasons":["cut_off"]}"#),
            (false, Healthy, false, 503, r#"{"ready":false,"reasons":["no_keys"]}"#),
            (true, Deaf, false, 503, r#"{"ready":false,"reasons":["draining","deaf","no_keys"]}"#),
            (true, Degraded, true, 503, r#"{"ready":false,"reasons":["draining","degraded"]}"#),
        ] {
            let response = answer(&reasons(draining, health, has_keys, false));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            let shown = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("body");
            assert_eq!(shown, body);
        }
        for (health, ready) in [(Healthy, true), (Degraded, true), (Deaf, false)] {
            let reasons = reasons(false, health, true, true);
            assert_eq!(reasons[reasons.len() - 2..], [Reason::Degraded, Reason::RedisFull]);
            assert_eq!(answer(&reasons).status() == 200, ready);
        }
    }

    #[test]
    fn health_tells_a_node_that_serves_with_less_from_one_that_can_not() {
        let dependency = |status| Dependency { status, latency_ms: None };
        let redis = |status| Redis { status, latency_ms: None, link: None };
        let (up, down) = (DependencyStatus::Up, DependencyStatus::Down);
        for (database, of_redis, health, has_keys, expected) in [
            (up, up, NodeHealth::Healthy, true, HealthStatus::Ok),
            (up, DependencyStatus::NotConfigured, NodeHealth::Healthy, true, HealthStatus::Ok),
            (down, up, NodeHealth::Healthy, true, HealthStatus::Degraded),
            (up, down, NodeHealth::Degraded, true, HealthStatus::Degraded),
            (up, DependencyStatus::Full, NodeHealth::Healthy, true, HealthStatus::Degraded),
            (up, down, NodeHealth::Deaf, true, HealthStatus::Unfit),
            (down, down, NodeHealth::CutOff, true, HealthStatus::Unfit),
            (up, up, NodeHealth::Healthy, false, HealthStatus::Unfit),
        ] {
            let status = overall(&dependency(database), &redis(of_redis), health, has_keys);
            assert_eq!(status, expected);
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

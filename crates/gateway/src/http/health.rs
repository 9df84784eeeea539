//! A node's health, for people and monitors ([`health`]) and for load balancers ([`ready`]).
//!
//! Both distinguish a degraded node from one that can't serve. Without its database a node still serves connections, topics and
//! presence, and without Redis it serves from the log: it stays ready, but degraded, while no other node is known to do better.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use starling_hub::Hub;
use utoipa::ToSchema;

use super::state::ApiState;
use crate::probe::{self, Bridges, Checked, Dependency, DependencyStatus, HealthStatus, Reason};

/// The routes of health.
pub(super) fn routes(state: ApiState) -> Router {
    let state = Arc::new(Monitor { state, checks: Checked::default() });
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(state)
}

/// The state of both routes.
pub(super) struct Monitor {
    state: ApiState,
    checks: Checked<Checks>,
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
    /// Whether Redis responds, and how fast.
    redis: Redis,
    /// The node's bridges to RabbitMQ, if it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rabbitmq: Option<Bridges>,
    /// The pools of connections to the database.
    pools: Vec<Pool>,
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
#[derive(ToSchema)]
#[schema(example = json!({"ready": false, "reasons": ["draining"]}))]
#[expect(dead_code, reason = "describes what `probe::ready` writes")]
pub(super) struct Readiness {
    ready: bool,
    /// Why not; or that it is ready and `degraded`.
    reasons: Vec<Reason>,
}

/// Shows the node's health: 200 while the process works.
#[utoipa::path(
    get, path = "/health", operation_id = "getHealth", tag = "health",
    responses((status = 200, description = "The node's health", body = Health)),
)]
pub(super) async fn health(State(monitor): State<Arc<Monitor>>) -> Json<Health> {
    let ApiState { hub, lifecycle, bridges } = &monitor.state;
    let Checks { database, redis } = monitor.checks().await;
    let record = hub.record();
    Json(Health {
        status: status(hub, &database, &redis),
        node: record.node,
        version: record.version,
        uptime_seconds: lifecycle.uptime().as_secs(),
        connections: hub.gauges().connections.load(Ordering::Relaxed),
        sessions: record.sessions.unwrap_or(0),
        draining: lifecycle.is_draining(),
        database,
        redis,
        rabbitmq: bridges.as_ref().map(|look| look()),
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
    let ApiState { hub, lifecycle, .. } = &monitor.state;
    probe::ready(&probe::reasons(
        lifecycle.is_draining(),
        hub.node_health(),
        hub.has_keys(),
        hub.session_store_is_full(),
    ))
}

impl Monitor {
    async fn checks(&self) -> Checks {
        let hub = &self.state.hub;
        let check = async {
            let (database, redis) = tokio::join!(check_database(hub), check_redis(hub));
            Checks { database, redis }
        };
        self.checks.get(check).await
    }
}

async fn check_database(hub: &Hub) -> Dependency {
    probe::check("database", async { Some(hub.database_health().await) }).await
}

async fn check_redis(hub: &Hub) -> Redis {
    let Dependency { mut status, latency_ms } = probe::check("redis", hub.session_store_health()).await;
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

fn status(hub: &Hub, database: &Dependency, redis: &Redis) -> HealthStatus {
    if hub.has_keys() {
        HealthStatus::of(hub.node_health(), &[database.status, redis.status])
    } else {
        HealthStatus::Unfit
    }
}

//! The probes of a node that takes no clients: `/health` and `/ready` on its metrics port.
//!
//! They answer as those of the public port do, without what is said of clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use starling_conversation_store::ConversationStore;
use starling_gateway::probe::{self, BridgesNow, Checked, Dependency, HealthStatus};
use starling_hub::Worker;
use starling_session_store::SessionStore;

use crate::setup::VERSION;

/// The state that probes show.
#[derive(Clone)]
pub struct Probes(Arc<Shown>);

struct Shown {
    node: String,
    started_at: Instant,
    draining: AtomicBool,
    /// Empty until the worker has started.
    parts: OnceLock<Parts>,
    checks: Checked<Checks>,
    /// The bridges to RabbitMQ. Empty: there are none.
    bridges: OnceLock<BridgesNow>,
}

/// The parts of a worker that probes ask.
pub struct Parts {
    /// The node among the others.
    pub worker: Arc<Worker>,
    /// The database.
    pub conversations: Arc<dyn ConversationStore>,
    /// Redis, or what replaces it.
    pub sessions: Arc<dyn SessionStore>,
}

/// Whether the node's dependencies answer.
#[derive(Clone)]
struct Checks {
    database: Dependency,
    redis: Dependency,
}

impl Probes {
    /// Creates the probes of the node of this name, which has not started yet.
    pub fn new(node: &str) -> Probes {
        Probes(Arc::new(Shown {
            node: node.to_owned(),
            started_at: Instant::now(),
            draining: AtomicBool::new(false),
            parts: OnceLock::new(),
            checks: Checked::default(),
            bridges: OnceLock::new(),
        }))
    }

    /// Notes that the node has started, and consists of these parts.
    pub fn start(&self, parts: Parts) {
        // Only the first start counts, and there is no second.
        let _ = self.0.parts.set(parts);
    }

    /// Shows the node's bridges to RabbitMQ, if it has some.
    pub fn show_bridges(&self, bridges: Option<BridgesNow>) {
        if let Some(bridges) = bridges {
            // They are made once.
            let _ = self.0.bridges.set(bridges);
        }
    }

    /// Notes that the node drains.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Returns the routes.
    pub fn routes(&self) -> Router {
        Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(self.clone())
    }
}

impl Parts {
    async fn check(&self) -> Checks {
        let database = probe::check("database", async {
            Some(self.conversations.ping().await.map_err(|error| error.to_string()))
        });
        let redis = probe::check("redis", async {
            self.sessions.ping().await.map(|answer| answer.map_err(|error| error.to_string()))
        });
        let (database, redis) = tokio::join!(database, redis);
        Checks { database, redis }
    }
}

async fn health(State(Probes(shown)): State<Probes>) -> Json<Value> {
    let mut body = json!({
        "status": HealthStatus::Unfit,
        "node": shown.node,
        "version": VERSION,
        "roles": ["worker"],
        "uptime_seconds": shown.started_at.elapsed().as_secs(),
        "draining": shown.draining.load(Ordering::Relaxed),
    });
    if let Some(parts) = shown.parts.get() {
        let Checks { database, redis } = shown.checks.get(parts.check()).await;
        body["status"] =
            json!(HealthStatus::of(parts.worker.node_health(), &[database.status, redis.status]));
        body["database"] = json!(database);
        body["redis"] = json!(redis);
        if let Some(link) = parts.worker.fanout_health() {
            body["redis"]["link"] = json!({ "connected": link.connected, "subscribed": link.subscribed });
        }
    }
    if let Some(bridges) = shown.bridges.get() {
        body["rabbitmq"] = json!(bridges());
    }
    Json(body)
}

async fn ready(State(Probes(shown)): State<Probes>) -> Response {
    let Some(parts) = shown.parts.get() else { return probe::starting() };
    let draining = shown.draining.load(Ordering::Relaxed);
    probe::ready(&probe::reasons(draining, parts.worker.node_health(), true, false))
}

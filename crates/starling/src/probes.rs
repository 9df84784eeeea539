//! The probes of a node that takes no clients: `/health` and `/ready` on its metrics port.
//!
//! They answer as those of the public port do, without what is said of clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::RETRY_AFTER;
use serde_json::{Value, json};
use starling_conversation_store::ConversationStore;
use starling_hub::{NodeHealth, Worker};
use starling_session_store::SessionStore;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::setup::VERSION;

/// How long the database, and Redis, may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a result is kept, so that any number of probes costs one check.
const CHECK_LIFETIME: Duration = Duration::from_secs(1);

/// The state that probes show.
#[derive(Clone)]
pub struct Probes(Arc<Shown>);

struct Shown {
    node: String,
    started_at: Instant,
    draining: AtomicBool,
    /// Empty until the worker has started.
    parts: OnceLock<Parts>,
    /// Held during a check: one probe checks, the others wait for its result.
    checks: Mutex<Option<(Instant, Checks)>>,
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

#[derive(Clone)]
struct Dependency {
    status: &'static str,
    latency_ms: Option<f64>,
}

impl Probes {
    /// Probes of the node of this name, which has not started yet.
    pub fn new(node: &str) -> Probes {
        Probes(Arc::new(Shown {
            node: node.to_owned(),
            started_at: Instant::now(),
            draining: AtomicBool::new(false),
            parts: OnceLock::new(),
            checks: Mutex::default(),
        }))
    }

    /// The node has started, and consists of these parts.
    pub fn start(&self, parts: Parts) {
        // Only the first start counts, and there is no second.
        let _ = self.0.parts.set(parts);
    }

    /// The node drains.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// The routes.
    pub fn routes(&self) -> Router {
        Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(self.clone())
    }

    fn node_health(&self) -> Option<NodeHealth> {
        self.0.parts.get().map(|parts| parts.worker.node_health())
    }

    async fn checks(&self, parts: &Parts) -> Checks {
        let mut kept = self.0.checks.lock().await;
        if let Some((at, checks)) = &*kept
            && at.elapsed() < CHECK_LIFETIME
        {
            return checks.clone();
        }
        let (database, redis) = tokio::join!(
            timed("database", async {
                Some(parts.conversations.ping().await.map_err(|error| error.to_string()))
            }),
            timed("redis", async {
                parts.sessions.ping().await.map(|answer| answer.map_err(|error| error.to_string()))
            }),
        );
        let checks = Checks { database, redis };
        *kept = Some((Instant::now(), checks.clone()));
        checks
    }
}

async fn health(State(probes): State<Probes>) -> Json<Value> {
    let shown = &probes.0;
    let mut body = json!({
        "node": shown.node,
        "version": VERSION,
        "roles": ["worker"],
        "uptime_seconds": shown.started_at.elapsed().as_secs(),
        "draining": shown.draining.load(Ordering::Relaxed),
    });
    let status = match shown.parts.get() {
        None => "unfit",
        Some(parts) => {
            let Checks { database, redis } = probes.checks(parts).await;
            let status = overall(&database, &redis, parts.worker.node_health());
            body["database"] = database.json();
            body["redis"] = redis.json();
            if let Some(link) = parts.worker.fanout_health() {
                body["redis"]["link"] = json!({ "connected": link.connected, "subscribed": link.subscribed });
            }
            status
        }
    };
    body["status"] = status.into();
    Json(body)
}

async fn ready(State(probes): State<Probes>) -> Response {
    answer(&reasons(probes.0.draining.load(Ordering::Relaxed), probes.node_health()))
}

/// Asks within the time. The error may name hosts and users, so it goes to the log and not into the answer.
async fn timed(name: &'static str, ask: impl Future<Output = Option<Result<(), String>>>) -> Dependency {
    let began = Instant::now();
    let answer = timeout(CHECK_TIMEOUT, ask).await;
    let latency_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let status = match answer {
        Ok(None) => return Dependency { status: "not_configured", latency_ms: None },
        Ok(Some(Ok(()))) => "up",
        Ok(Some(Err(error))) => {
            tracing::debug!(dependency = name, error, "a health check failed");
            "down"
        }
        Err(_) => "timeout",
    };
    Dependency { status, latency_ms: Some(latency_ms) }
}

impl Dependency {
    fn is_fine(&self) -> bool {
        matches!(self.status, "up" | "not_configured")
    }

    fn json(&self) -> Value {
        match self.latency_ms {
            None => json!({ "status": self.status }),
            Some(latency_ms) => json!({ "status": self.status, "latency_ms": latency_ms }),
        }
    }
}

fn overall(database: &Dependency, redis: &Dependency, health: NodeHealth) -> &'static str {
    if !health.serves() {
        "unfit"
    } else if database.is_fine() && redis.is_fine() && health == NodeHealth::Healthy {
        "ok"
    } else {
        "degraded"
    }
}

/// Why the node is not ready, or that it is ready and `degraded`. `health`: none before it has started.
fn reasons(draining: bool, health: Option<NodeHealth>) -> Vec<&'static str> {
    let reasons = [
        (health.is_none(), "starting"),
        (draining, "draining"),
        (health == Some(NodeHealth::Deaf), "deaf"),
        (health == Some(NodeHealth::CutOff), "cut_off"),
        (health == Some(NodeHealth::Degraded), DEGRADED),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

/// The one reason with which a node is ready.
const DEGRADED: &str = "degraded";

fn answer(reasons: &[&str]) -> Response {
    let ready = reasons.iter().all(|reason| *reason == DEGRADED);
    let body = Json(json!({ "ready": ready, "reasons": reasons }));
    if ready {
        body.into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_once_it_has_started_until_it_drains_or_others_do_better() {
        use NodeHealth::{CutOff, Deaf, Degraded, Healthy};
        for (draining, health, expected) in [
            (false, None, vec!["starting"]),
            (false, Some(Healthy), vec![]),
            (false, Some(Degraded), vec!["degraded"]),
            (true, Some(Healthy), vec!["draining"]),
            (false, Some(Deaf), vec!["deaf"]),
            (true, Some(CutOff), vec!["draining", "cut_off"]),
        ] {
            let reasons = reasons(draining, health);
            assert_eq!(reasons, expected);
            let ready = matches!(health, Some(Healthy | Degraded)) && !draining;
            assert_eq!(answer(&reasons).status() == StatusCode::OK, ready, "{expected:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_hangs_is_not_waited_for() {
        let hangs = timed("x", std::future::pending()).await;
        assert_eq!(overall(&hangs, &hangs, NodeHealth::Healthy), "degraded");
        let absent = timed("x", async { None }).await;
        assert_eq!(overall(&absent, &absent, NodeHealth::Healthy), "ok");
        assert_eq!(overall(&absent, &absent, NodeHealth::Deaf), "unfit");
    }
}

//! What the probes of every node have in common, whether it takes clients or not: do its dependencies answer, how well does it serve, and
//! is it ready?

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;
use starling_hub::NodeHealth;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

/// Limit on the time in which the database, or Redis, has to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is kept, so that any number of probes cost one check.
const CHECK_LIFETIME: Duration = Duration::from_secs(1);

/// How well a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All that it depends on answers.
    Ok,
    /// The database or Redis does not answer, or Redis is full; the node serves what it can without.
    Degraded,
    /// It can't serve, or others serve better: `GET /ready` says why.
    Unfit,
}

impl HealthStatus {
    /// Judges a node by its link to the other nodes and its dependencies.
    pub fn of(health: NodeHealth, dependencies: &[DependencyStatus]) -> HealthStatus {
        if !health.serves() {
            HealthStatus::Unfit
        } else if health == NodeHealth::Healthy && dependencies.iter().all(|status| status.is_fine()) {
            HealthStatus::Ok
        } else {
            HealthStatus::Degraded
        }
    }
}

/// The bridges of a node to RabbitMQ. They say nothing of how well it serves: what is to cross a bridge waits while it does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bridges {
    /// How many there are.
    pub bridges: usize,
    /// How many of them are connected, and have all that they need.
    pub working: usize,
}

/// A function that returns how many bridges of the node work.
pub type BridgesNow = Arc<dyn Fn() -> Bridges + Send + Sync>;

/// Something that the node depends on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Dependency {
    /// Whether it answers.
    pub status: DependencyStatus,
    /// How long the answer took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub latency_ms: Option<f64>,
}

/// Whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyStatus {
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

impl DependencyStatus {
    /// Whether it answers, or is not needed.
    pub fn is_fine(self) -> bool {
        matches!(self, DependencyStatus::Up | DependencyStatus::NotConfigured)
    }
}

/// Asks a dependency, within the limit. `None`: the node works without it. Its error may name hosts and users, so it goes to the log and
/// not to the caller.
pub async fn check(name: &'static str, ask: impl Future<Output = Option<Result<(), String>>>) -> Dependency {
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

/// The last result of the checks, which any number of probes share for a second.
pub struct Checked<T> {
    /// Locked during a check: one caller checks, the others wait for the result.
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Checked<T> {
    /// Returns the last result, or that of a new `check` if it is too old.
    pub async fn get(&self, check: impl Future<Output = T>) -> T {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < CHECK_LIFETIME
        {
            return result.clone();
        }
        let result = check.await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

impl<T> Default for Checked<T> {
    fn default() -> Checked<T> {
        Checked { last: Mutex::new(None) }
    }
}

/// Why a node is not ready, or not quite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
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

/// Returns why a node is not ready, or not quite.
pub fn reasons(draining: bool, health: NodeHealth, has_keys: bool, is_full: bool) -> Vec<Reason> {
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

/// Answers `/ready`: with 200, or with 503 and the time to ask again.
pub fn ready(reasons: &[Reason]) -> Response {
    let ready = reasons.iter().all(|reason| matches!(reason, Reason::Degraded | Reason::RedisFull));
    let body = Json(json!({ "ready": ready, "reasons": reasons }));
    if ready { body.into_response() } else { not_ready(body) }
}

/// Answers `/ready` of a node that has not started yet.
pub fn starting() -> Response {
    not_ready(Json(json!({ "ready": false, "reasons": ["starting"] })))
}

fn not_ready(body: Json<serde_json::Value>) -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn shown(response: Response) -> (u16, bool, String) {
        let (status, retry) = (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("body");
        (status, retry, String::from_utf8_lossy(&body).into_owned())
    }

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
            let answer = shown(ready(&reasons(draining, health, has_keys, false))).await;
            assert_eq!(answer, (status, status == 503, body.to_owned()));
        }
        let answer = shown(ready(&reasons(false, Healthy, true, true))).await;
        assert_eq!(answer, (200, false, r#"{"ready":true,"reasons":["degraded","redis_full"]}"#.to_owned()));
        let answer = shown(starting()).await;
        assert_eq!(answer, (503, true, r#"{"ready":false,"reasons":["starting"]}"#.to_owned()));
    }

    #[test]
    fn health_tells_a_node_that_serves_with_less_from_one_that_can_not() {
        let (up, down, absent) =
            (DependencyStatus::Up, DependencyStatus::Down, DependencyStatus::NotConfigured);
        for (dependencies, health, expected) in [
            ([up, up], NodeHealth::Healthy, HealthStatus::Ok),
            ([up, absent], NodeHealth::Healthy, HealthStatus::Ok),
            ([down, up], NodeHealth::Healthy, HealthStatus::Degraded),
            ([DependencyStatus::Timeout, up], NodeHealth::Healthy, HealthStatus::Degraded),
            ([up, DependencyStatus::Full], NodeHealth::Healthy, HealthStatus::Degraded),
            ([up, down], NodeHealth::Degraded, HealthStatus::Degraded),
            ([up, down], NodeHealth::Deaf, HealthStatus::Unfit),
            ([down, down], NodeHealth::CutOff, HealthStatus::Unfit),
        ] {
            assert_eq!(HealthStatus::of(health, &dependencies), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_hangs_is_not_waited_for() {
        assert_eq!(check("x", std::future::pending()).await.status, DependencyStatus::Timeout);
        let refused = check("x", async { Some(Err("no".to_owned())) }).await;
        assert_eq!(refused.status, DependencyStatus::Down);
        assert!(refused.latency_ms.is_some());
        let absent = check("x", async { None }).await;
        assert_eq!((absent.status, absent.latency_ms), (DependencyStatus::NotConfigured, None));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_cost_one_check_per_second() {
        let (checked, checks) = (Checked::default(), AtomicU32::new(0));
        let check = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            checks.fetch_add(1, Ordering::Relaxed) + 1
        };
        for round in 1..=3 {
            let answers = futures_util::future::join_all((0..100).map(|_| checked.get(check()))).await;
            assert_eq!(answers, vec![round; 100]);
            tokio::time::advance(CHECK_LIFETIME).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_gives_up_leaves_the_way_free() {
        let checked = Checked::default();
        let hangs = checked.get(std::future::pending::<u32>());
        assert!(tokio::time::timeout(Duration::from_millis(1), hangs).await.is_err());
        assert_eq!(checked.get(async { 7 }).await, 7);
    }
}

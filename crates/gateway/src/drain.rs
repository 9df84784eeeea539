//! A node's drain, from the announcement to the last connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_hub::Hub;
use tokio::time::Instant;

use crate::config::GatewayConfig;
use crate::lifecycle::Lifecycle;
use crate::metrics::METRICS;
use crate::requests::Requests;
use crate::shard::{DrainPlan, Inboxes, Item};

/// How often a drain looks whether all clients have left.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often a drain logs its progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Minimum time for leaving the cluster, kept even if clients used up the drain's time.
const LEAVE_MIN: Duration = Duration::from_secs(3);

/// What a drain works on.
pub(crate) struct Drain {
    pub config: Arc<GatewayConfig>,
    pub lifecycle: Arc<Lifecycle>,
    pub requests: Arc<Requests>,
    pub hub: Arc<Hub>,
    pub inboxes: Arc<Inboxes>,
    /// How the signal must be sent to stop the node at once, in the words of the log: "again" or "twice".
    pub signals: &'static str,
}

impl Drain {
    /// Drains the node. Readiness falls at once, and load balancers get a moment to notice. Then clients are told when to move to
    /// other nodes, and the connections that are left are closed in random order before the time is over. Where there is no other
    /// node, all are closed at once.
    pub async fn run(&self) {
        let (began, signals) = (Instant::now(), self.signals);
        self.lifecycle.begin_drain();
        METRICS.draining.set(1.0);
        self.hub.announce_drain().await;
        // A node that has never learnt which others there are can't take itself for the only one.
        let others = self.hub.elsewhere().unwrap_or(1);
        tracing::info!(
            clients = self.connections(),
            other_nodes = others,
            seconds_max = self.config.drain.as_secs(),
            "draining; send the signal {signals} to stop at once"
        );
        tokio::time::sleep(self.notice(others).saturating_sub(began.elapsed())).await;
        self.lifecycle.close();
        self.plan_shards(self.left(began), others).await;
        self.wait_until_empty(began).await;
        self.hub.leave(self.left(began).max(LEAVE_MIN)).await;
        let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        tracing::info!(clients_left = self.connections(), seconds, "drained");
    }

    /// The time that load balancers get to notice. Where no other node could take the connections, they have nothing to notice.
    fn notice(&self, others: usize) -> Duration {
        if others > 0 { self.config.drain_notice.min(self.config.drain / 4) } else { Duration::ZERO }
    }

    /// The time that is left of a drain.
    fn left(&self, began: Instant) -> Duration {
        self.config.drain.saturating_sub(began.elapsed())
    }

    async fn plan_shards(&self, limit: Duration, others: usize) {
        let rate = self.config.drain_clients_per_second;
        let plan = DrainPlan::new(limit, self.connections(), others, rate);
        for shard in 0..self.inboxes.count() {
            self.inboxes.send(shard, Item::Drain(plan)).await;
        }
    }

    /// Waits until all clients have left and all requests are answered, or the time is over.
    async fn wait_until_empty(&self, began: Instant) {
        let (mut logged, signals) = (Instant::now(), self.signals);
        while self.connections() + self.requests.under_way() > 0 && !self.left(began).is_zero() {
            tokio::time::sleep(POLL_INTERVAL).await;
            if logged.elapsed() >= PROGRESS_EVERY {
                logged = Instant::now();
                tracing::info!(
                    clients = self.connections(),
                    requests = self.requests.under_way(),
                    seconds_left = self.left(began).as_secs(),
                    "still draining; send the signal {signals} to stop at once"
                );
            }
        }
    }

    /// Number of open WebSockets.
    fn connections(&self) -> u64 {
        self.hub.gauges().connections.load(Ordering::Relaxed)
    }
}

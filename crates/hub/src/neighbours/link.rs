//! Tends the link to Redis: probes it each second, reconnects when it is connected and carries nothing, and compares it with those of the
//! other nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Neighbours;
use super::node_health::{NodeHealth, Report};
use crate::clock::every_second;
use crate::metrics::METRICS;

/// Longest time that the database may take to respond.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

impl Neighbours {
    /// Returns how well this node can serve its clients now.
    pub fn node_health(&self) -> NodeHealth {
        if self.hears() { NodeHealth::Healthy } else { self.health_reports.judge() }
    }

    /// Tends the link each second.
    pub(super) async fn tend_link_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.lifetime.next_tick(&mut interval).await {
            self.tend_link().await;
        }
    }

    /// Probes the link, announces what the other nodes may lack, and reconnects if Redis is connected and probes don't come back.
    async fn tend_link(&self) {
        let is_probed = self.fanout.probe(self.probes.next()).await.is_ok();
        let hears = self.hears();
        METRICS.fanout_up.set(if hears { 1.0 } else { 0.0 });
        self.publisher.announce(&self.node, is_probed && hears);
        if self.probes.are_missed() && self.fanout.link().is_some_and(|link| link.connected) {
            tracing::warn!("no probes are received although the broker is connected; reconnecting");
            self.probes.reset();
            self.fanout.reconnect().await;
        }
    }

    /// Exchanges reports through the database, so that nodes learn who hears and who is deaf.
    pub(super) async fn compare_links_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.lifetime.next_tick(&mut interval).await {
            let says = match self.health_reports.observe(Instant::now(), self.hears(), self.probes.heard_at())
            {
                Report::Nothing => continue,
                Report::Ask => None,
                Report::Say(hears) => Some(hears),
            };
            let answer = timeout(ANSWER_LIMIT, self.conversations.compare_links(&self.node, says)).await;
            match answer {
                Ok(Ok(reports)) => self.health_reports.learn(reports),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the database did not report which nodes hear each other");
                }
                Err(_) => tracing::debug!("the database did not report in time which nodes hear each other"),
            }
        }
    }
}

//! Tends the link to Redis: probes it each second, and reconnects when it is connected and carries nothing.

use std::sync::Arc;

use super::Neighbours;
use crate::clock::every_second;
use crate::metrics::METRICS;

impl Neighbours {
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
}

//! What a node shows of all webhooks and hooks in its metrics.

use std::sync::Arc;
use std::time::Duration;

use starling_webhooks::{WebhookOverview, WebhookStore};
use tokio::time::sleep;

use crate::asking::Asking;
use crate::delivering::BUSY;
use crate::knowledge::Knowledge;
use crate::metrics::METRICS;
use crate::time::about;

/// How often a node looks, on average.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps the metrics of all webhooks, and of the breakers of this node.
pub(crate) struct Overview {
    store: Arc<dyn WebhookStore>,
    knowledge: Arc<Knowledge>,
    asking: Arc<Asking>,
}

impl Overview {
    pub fn new(store: Arc<dyn WebhookStore>, knowledge: Arc<Knowledge>, asking: Arc<Asking>) -> Self {
        Self { store, knowledge, asking }
    }

    /// Sets the metrics every few seconds. Never returns.
    pub async fn run_forever(&self) {
        loop {
            METRICS.breakers_open.set(self.asking.open_breakers() as f64);
            // Without webhooks there are no deliveries.
            let overview = match self.knowledge.wanted().any() {
                true => self.store.overview(BUSY).await,
                false => Ok(WebhookOverview::default()),
            };
            match overview {
                Ok(overview) => show(&overview),
                Err(error) => tracing::debug!(%error, "what waits for webhooks could not be looked at"),
            }
            sleep(about(LOOK_EVERY)).await;
        }
    }
}

fn show(overview: &WebhookOverview) {
    METRICS.paused_for_failures.set(overview.paused_for_failures as f64);
    METRICS.paused_by_hand.set(overview.paused_by_hand as f64);
    METRICS.oldest_waiting_seconds.set(overview.oldest_waiting.unwrap_or_default());
    METRICS.oldest_due_seconds.set(overview.oldest_due.unwrap_or_default());
}

//! Removing deliveries that are more than those to be kept.

use std::sync::Arc;
use std::time::Duration;

use starling_model::TenantName;
use starling_webhooks::{Retention, Trimmed, WebhookId, WebhookStore};
use tokio::time::sleep;

use crate::knowledge::Knowledge;
use crate::metrics::METRICS;
use crate::time::about;

/// How often deliveries that are too many are removed, on average.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Removes deliveries that are more than those to be kept.
pub(crate) struct Trimmer {
    store: Arc<dyn WebhookStore>,
    knowledge: Arc<Knowledge>,
}

impl Trimmer {
    pub fn new(store: Arc<dyn WebhookStore>, knowledge: Arc<Knowledge>) -> Self {
        Self { store, knowledge }
    }

    /// Trims the deliveries of all webhooks from time to time. Never returns.
    pub async fn run_forever(&self) {
        loop {
            sleep(about(TRIM_EVERY)).await;
            for (tenant, webhook) in self.knowledge.wanted().webhooks() {
                self.trim(&tenant, webhook).await;
            }
        }
    }

    async fn trim(&self, tenant: &TenantName, webhook: WebhookId) {
        loop {
            match self.store.trim(tenant, webhook, Retention::default()).await {
                Ok(trimmed) if trimmed == Trimmed::default() => return,
                Ok(trimmed) => note_trimmed(tenant, webhook, trimmed),
                Err(error) => return tracing::debug!(%error, "deliveries could not be trimmed"),
            }
        }
    }
}

fn note_trimmed(tenant: &TenantName, webhook: WebhookId, trimmed: Trimmed) {
    if trimmed.failed > 0 {
        METRICS.lost.increment(trimmed.failed);
        let failed = trimmed.failed;
        tracing::warn!(tenant = &**tenant, %webhook, failed, "events are lost to a webhook: too many wait");
    }
}

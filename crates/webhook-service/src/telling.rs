//! Recording events for the webhooks that want them.

use std::time::Duration;

use starling_model::TenantName;
use starling_webhooks::{Error, EventId, EventType, NewEvent, WebhookId};
use starling_wire::protocol::Timestamp;
use tokio::time::sleep;

use crate::WebhookService;
use crate::metrics::METRICS;

/// How often recording an event is tried. What it tells of is committed already.
const TRIES: u32 = 5;
/// The pause after the first failure. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(200);

impl WebhookService {
    /// Whether a webhook of the tenant wants events of this type. Waits for nothing.
    pub fn wants(&self, tenant: &TenantName, kind: EventType) -> bool {
        self.wanted.has(tenant, kind)
    }

    /// Records an event that has happened at `at`, with details as JSON, for all webhooks that want it. Events with the same `order_key`
    /// keep their order at webhooks that ask for it.
    pub async fn tell(
        &self,
        tenant: &TenantName,
        kind: EventType,
        at: Timestamp,
        order_key: Option<&str>,
        data: &str,
    ) {
        let event = match NewEvent::new(tenant.clone(), kind, at, order_key.map(str::to_owned), data) {
            Ok(event) => event,
            Err(error) => return self.note_lost(kind, &error),
        };
        let mut pause = PAUSE;
        for left in (0..TRIES).rev() {
            match self.store.record(std::slice::from_ref(&event)).await {
                Ok(recorded) => {
                    METRICS.recorded.increment(recorded.len() as u64);
                    return self.due_wanted.notify_one();
                }
                Err(error) if left == 0 || !error.is_transient() => return self.note_lost(kind, &error),
                Err(_) => sleep(pause).await,
            }
            pause *= 2;
        }
    }

    /// Counts and logs an event that no webhook will be told of.
    pub fn note_lost(&self, kind: EventType, error: &dyn std::error::Error) {
        METRICS.lost.increment(1);
        tracing::error!(%error, kind = kind.as_str(), "an event is lost to webhooks");
    }

    /// Records a test event for one webhook, whatever that wants. Returns the event, or `None` if the tenant has no such webhook.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn test(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        at: Timestamp,
    ) -> Result<Option<EventId>, Error> {
        let data = format!("{{\"webhook\":\"{webhook}\"}}");
        let event = NewEvent::new(tenant.clone(), EventType::WebhookTest, at, None, &data)
            .map_err(|error| Error::Refused(error.to_string()))?;
        let is_there = self.store.record_for(webhook, &event).await?;
        METRICS.recorded.increment(u64::from(is_there));
        self.due_wanted.notify_one();
        Ok(is_there.then_some(event.id))
    }

    /// Records that this node has added a message to the log that webhooks want.
    pub fn note_announced(&self) {
        self.announced_wanted.notify_one();
    }
}

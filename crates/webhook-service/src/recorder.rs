//! Recording the deliveries of events to the webhooks that want them.

use std::sync::Arc;
use std::time::Duration;

use starling_model::TenantName;
use starling_webhooks::{Error, EventId, EventType, InvalidEvent, NewEvent, WebhookId, WebhookStore};
use starling_wire::protocol::Timestamp;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::metrics::METRICS;

/// How often recording an event is tried that is noted nowhere else. What it tells of is committed already.
const TRIES: u32 = 5;
/// The pause after the first failure. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(200);

/// Records deliveries, and wakes the task of this node that makes them.
pub(crate) struct Recorder {
    store: Arc<dyn WebhookStore>,
    /// Notified when deliveries may have become due.
    due: Notify,
}

impl Recorder {
    pub fn new(store: Arc<dyn WebhookStore>) -> Self {
        Self { store, due: Notify::new() }
    }

    /// Records events that are noted elsewhere. If they can't be forgotten there, they are recorded again, which changes nothing.
    pub async fn record(&self, events: &[NewEvent]) -> Result<(), Error> {
        let recorded = self.store.record(events).await?;
        self.recorded(recorded.len() as u64);
        Ok(())
    }

    /// Records an event that has happened at `at`, with details as JSON, for all webhooks that want it. Events with the same `order_key`
    /// keep their order at webhooks that ask for it. The event is lost if the database can't be reached for some seconds.
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
            match self.record(std::slice::from_ref(&event)).await {
                Ok(()) => return,
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
        self.recorded(u64::from(is_there));
        Ok(is_there.then_some(event.id))
    }

    /// Counts deliveries that were recorded, and wakes the task that makes them.
    pub fn recorded(&self, deliveries: u64) {
        if deliveries > 0 {
            METRICS.recorded.increment(deliveries);
            self.wake();
        }
    }

    /// Wakes the task that makes deliveries: some may have become due.
    pub fn wake(&self) {
        self.due.notify_one();
    }

    /// Waits until deliveries may have become due. One task waits.
    pub async fn woken(&self) {
        self.due.notified().await;
    }
}

/// Gives an event the id of what it tells of, so that it is recorded once; `None` if it can't be told.
pub(crate) fn with_id(event: Result<NewEvent, InvalidEvent>, id: EventId) -> Option<NewEvent> {
    match event {
        Ok(event) => Some(event.with_id(id)),
        Err(error) => {
            METRICS.lost.increment(1);
            tracing::error!(%error, %id, "an event can't be told to webhooks");
            None
        }
    }
}

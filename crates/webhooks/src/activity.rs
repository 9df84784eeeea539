//! A webhook's pending deliveries and newest attempts.

use crate::{DeliveryState, EventId, WebhookId};

/// The newest deliveries of a webhook among which its newest attempts are looked for.
pub(crate) const NEWEST_DELIVERIES: u16 = 100;
/// The oldest waiting deliveries among which they are looked for as well: those of a dead backend are tried again, while many newer ones wait.
pub(crate) const OLDEST_WAITING: u16 = 20;

/// A webhook's pending deliveries and newest attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookActivity {
    /// The webhook.
    pub webhook: WebhookId,
    /// The deliveries that wait.
    pub waiting: u64,
    /// The newest attempts, the newest first, one of each delivery. They are those of the newest 100 deliveries, and of the 20 that have
    /// waited longest.
    pub attempts: Vec<AnsweredAttempt>,
}

/// The newest attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredAttempt {
    /// The event.
    pub event: EventId,
    /// The name of its type.
    pub kind: String,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Why the attempt failed.
    pub reason: Option<String>,
    /// When it ended, Unix milliseconds by the database's clock.
    pub ended_at_ms: i64,
}

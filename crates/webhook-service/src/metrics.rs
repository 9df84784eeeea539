//! The metrics of webhooks and hooks: handles that are registered once.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use starling_webhooks::{AskFailure, Asked, Verdict};

/// The metrics of webhooks and hooks.
pub(crate) struct WebhookMetrics {
    pub hooks: Gauge,
    pub breakers_open: Gauge,
    pub under_way: Gauge,
    pub question_seconds: Histogram,
    allowed: Counter,
    refused: Counter,
    failed: Counter,
    open: Counter,
    busy: Counter,
    pub webhooks: Gauge,
    pub paused_for_failures: Gauge,
    pub paused_by_hand: Gauge,
    pub oldest_waiting_seconds: Gauge,
    pub oldest_due_seconds: Gauge,
    pub users_online: Gauge,
    pub recorded: Counter,
    pub lost: Counter,
    pub attempts_under_way: Gauge,
    pub attempt_seconds: Histogram,
    pub delivered: Counter,
    pub retried: Counter,
    pub failed_deliveries: Counter,
    pub gone: Counter,
}

/// Registers the metrics.
pub(crate) static METRICS: LazyLock<WebhookMetrics> = LazyLock::new(|| {
    let questions = |outcome: &'static str| counter!("starling_hook_questions_total", "outcome" => outcome);
    let attempts = |outcome: &'static str| counter!("starling_webhook_attempts_total", "outcome" => outcome);
    let paused = |reason: &'static str| gauge!("starling_webhooks_paused", "reason" => reason);
    WebhookMetrics {
        hooks: gauge!("starling_hooks"),
        breakers_open: gauge!("starling_hook_breakers_open"),
        under_way: gauge!("starling_hook_questions_under_way"),
        question_seconds: histogram!("starling_hook_question_seconds"),
        allowed: questions("allowed"),
        refused: questions("refused"),
        failed: questions("failed"),
        open: questions("open"),
        busy: questions("busy"),
        webhooks: gauge!("starling_webhooks"),
        paused_for_failures: paused("failed"),
        paused_by_hand: paused("wanted"),
        oldest_waiting_seconds: gauge!("starling_webhook_oldest_waiting_seconds"),
        oldest_due_seconds: gauge!("starling_webhook_oldest_due_seconds"),
        users_online: gauge!("starling_webhook_users_online"),
        recorded: counter!("starling_webhook_deliveries_recorded_total"),
        lost: counter!("starling_webhook_events_lost_total"),
        attempts_under_way: gauge!("starling_webhook_attempts_under_way"),
        attempt_seconds: histogram!("starling_webhook_attempt_seconds"),
        delivered: attempts("delivered"),
        retried: attempts("retried"),
        failed_deliveries: attempts("failed"),
        gone: attempts("gone"),
    }
});

impl WebhookMetrics {
    /// Returns the counter for the outcome of a question.
    pub fn outcome(&self, asked: &Asked) -> &Counter {
        match (&asked.failure, &asked.verdict) {
            (Some(AskFailure::Open), _) => &self.open,
            (Some(AskFailure::Busy), _) => &self.busy,
            (Some(_), _) | (None, Verdict::Unavailable(_)) => &self.failed,
            (None, Verdict::Allow(_)) => &self.allowed,
            (None, Verdict::Refuse(_)) => &self.refused,
        }
    }
}

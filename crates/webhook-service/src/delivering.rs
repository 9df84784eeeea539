//! Attempts to deliver events to webhooks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_webhooks::{
    AttemptEnd, Client, Delivered, Delivery, DeliveryClaim, DeliveryState, DueDelivery, Error, Noted,
    Outcome, Retries, WebhookId, WebhookStore,
};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep};

use crate::knowledge::Knowledge;
use crate::metrics::METRICS;
use crate::recorder::Recorder;
use crate::time::about;

/// The most attempts of a node that are under way.
const UNDER_WAY_MAX: usize = 64;
/// The most of them that go to one webhook, so that a slow one leaves places for others.
const OF_EACH_MAX: usize = 8;
/// How often a node looks for deliveries whose time has come, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most failing webhooks with an order that one claim looks at. It may read all deliveries that wait there, up to 10,000 of each.
const FAILING_IN_ORDER_MAX: u16 = 20;
/// How much longer than such a claim the pause until the next one is, so that they take a tenth of a connection at most.
const FAILING_PAUSE: u32 = 10;
/// The least pause between two such claims, shorter than the time between two looks for what is due.
const FAILING_PAUSE_MIN: Duration = Duration::from_millis(500);
/// How long a claim lasts beyond the time of an attempt. A node that has not recorded the end by then is taken for dead.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);

/// The attempts of a node that are under way.
#[derive(Default)]
struct UnderWay {
    attempts: JoinSet<()>,
    webhooks: HashMap<Id, WebhookId>,
}

impl UnderWay {
    fn begin(&mut self, deliverer: &Arc<Deliverer>, due: DueDelivery) {
        let (deliverer, webhook) = (deliverer.clone(), due.webhook);
        let task = self.attempts.spawn(async move { deliverer.attempt(due).await });
        self.webhooks.insert(task.id(), webhook);
    }

    /// Waits until an attempt has ended. Waits forever if there is none.
    async fn ended(&mut self) {
        let id = match self.attempts.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return std::future::pending().await,
        };
        self.webhooks.remove(&id);
    }

    /// Returns which deliveries may be claimed; `None` if there are enough.
    fn claim(&self, lasts: Duration, failing_in_order: u16) -> Option<DeliveryClaim> {
        let left = UNDER_WAY_MAX.saturating_sub(self.webhooks.len());
        let mut counts: HashMap<WebhookId, usize> = HashMap::new();
        for id in self.webhooks.values() {
            *counts.entry(*id).or_default() += 1;
        }
        let busiest = counts.values().filter(|count| **count < OF_EACH_MAX).max();
        let of_each = OF_EACH_MAX - busiest.copied().unwrap_or_default();
        Some(DeliveryClaim {
            limit: u16::try_from(left).ok().filter(|left| *left > 0)?,
            of_each: u16::try_from(of_each).unwrap_or(1),
            except: counts.iter().filter(|(_, count)| **count >= OF_EACH_MAX).map(|(id, _)| *id).collect(),
            failing_in_order,
            lasts,
        })
    }
}

/// When claims look at failing webhooks with an order. Claims are made whenever an event is recorded or an attempt has ended, which must not
/// cost a look at all that waits for backends that are down.
struct FailingLooks {
    next: Instant,
}

impl FailingLooks {
    /// Returns how many failing webhooks with an order a claim looks at now.
    fn failing_in_order(&self, now: Instant) -> u16 {
        if now >= self.next { FAILING_IN_ORDER_MAX } else { 0 }
    }

    /// Notes a claim that took from `began` to `ended`.
    fn note(&mut self, began: Instant, ended: Instant) {
        if began >= self.next {
            self.next = ended + ((ended - began) * FAILING_PAUSE).max(FAILING_PAUSE_MIN);
        }
    }
}

/// The times of attempts.
#[derive(Clone, Copy)]
pub(crate) struct DeliveryTimes {
    /// See [`crate::WebhookSettings::timeout`].
    pub timeout: Duration,
    /// See [`crate::WebhookSettings::pause_after`].
    pub pause_after: Duration,
}

/// Claims deliveries that are due, and makes attempts.
pub(crate) struct Deliverer {
    store: Arc<dyn WebhookStore>,
    client: Client,
    knowledge: Arc<Knowledge>,
    recorder: Arc<Recorder>,
    times: DeliveryTimes,
}

impl Deliverer {
    pub fn new(
        store: Arc<dyn WebhookStore>,
        client: Client,
        knowledge: Arc<Knowledge>,
        recorder: Arc<Recorder>,
        times: DeliveryTimes,
    ) -> Self {
        Self { store, client, knowledge, recorder, times }
    }

    /// Delivers events. Never returns. Attempts that are under way when it is dropped are made again by others.
    pub async fn run_forever(self: Arc<Self>) {
        let mut under_way = UnderWay::default();
        let mut failing_looks = FailingLooks { next: Instant::now() };
        let lasts = self.times.timeout + CLAIM_MARGIN;
        loop {
            let mut may_be_more = false;
            let began = Instant::now();
            // Without webhooks there are no deliveries.
            if self.knowledge.wanted().any()
                && let Some(claim) = under_way.claim(lasts, failing_looks.failing_in_order(began))
            {
                match self.store.claim(&claim).await {
                    Ok(due) => {
                        may_be_more = !due.is_empty();
                        for delivery in due {
                            under_way.begin(&self, delivery);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "deliveries could not be claimed"),
                }
                failing_looks.note(began, Instant::now());
            }
            METRICS.attempts_under_way.set(under_way.webhooks.len() as f64);
            if may_be_more && under_way.webhooks.len() < UNDER_WAY_MAX {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = under_way.ended() => {}
                () = self.recorder.woken() => {}
                () = sleep(about(LOOK_EVERY)) => {}
            }
        }
    }

    /// Makes one attempt, and stores its outcome.
    async fn attempt(&self, due: DueDelivery) {
        let began = Instant::now();
        let (id, body) = (due.event.0.to_string(), Bytes::from(due.body.clone()));
        let delivery = Delivery { endpoint: &due.endpoint, id: &id, secrets: &due.secrets, body: &body };
        let delivered = self.client.deliver(delivery, self.times.timeout).await;
        METRICS.attempt_seconds.record(began.elapsed());
        if let Err(error) = self.note(&due, delivered).await {
            // The claim runs out, and another attempt follows.
            tracing::debug!(%error, "the end of an attempt could not be kept");
        }
    }

    async fn note(&self, due: &DueDelivery, delivered: Delivered) -> Result<(), Error> {
        let Delivered { outcome, status, answer } = delivered;
        let (tenant, webhook) = (&due.tenant, due.webhook);
        let (state, reason, again_after) = match outcome {
            Outcome::Delivered => {
                METRICS.delivered.increment(1);
                (DeliveryState::Delivered, None, Duration::ZERO)
            }
            Outcome::Gone => {
                METRICS.gone.increment(1);
                tracing::info!(tenant = &**tenant, %webhook, "a backend wants no more events; its webhook is removed");
                self.store.remove(tenant, webhook).await?;
                self.knowledge.learn_of_own().await;
                return Ok(());
            }
            Outcome::Failed { reason, retry_after } => {
                let attempts = due.attempts.saturating_add(1);
                let next = Retries::default().next(attempts, due.since_first, retry_after, rand::random());
                match next {
                    Some(delay) => {
                        METRICS.retried.increment(1);
                        (DeliveryState::Waiting, Some(reason), delay)
                    }
                    None => {
                        METRICS.failed_deliveries.increment(1);
                        (DeliveryState::Failed, Some(reason), Duration::ZERO)
                    }
                }
            }
        };
        let end = AttemptEnd { state, status, reason, answer, again_after };
        let noted = self.store.note_attempt(tenant, webhook, due.event, &end, self.times.pause_after).await?;
        if noted == Noted::Paused {
            tracing::warn!(tenant = &**tenant, %webhook, "a webhook has failed for too long and is paused");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_webhook_never_has_more_than_its_places() {
        let mut under_way = UnderWay::default();
        let (one, other) = (WebhookId::new(), WebhookId::new());
        let add = |under_way: &mut UnderWay, id, count| {
            for _ in 0..count {
                let task = under_way.attempts.spawn(std::future::pending());
                under_way.webhooks.insert(task.id(), id);
            }
        };
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (64, 8, vec![]));
        add(&mut under_way, one, 5);
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (59, 3, vec![]));
        add(&mut under_way, one, 3);
        add(&mut under_way, other, 1);
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (55, 7, vec![one]));
        for _ in 0..55 {
            add(&mut under_way, WebhookId::new(), 1);
        }
        assert!(under_way.claim(LOOK_EVERY, 0).is_none());
    }

    #[test]
    fn failing_webhooks_with_an_order_are_looked_at_for_a_tenth_of_the_time() {
        let start = Instant::now();
        let mut looks = FailingLooks { next: start };
        assert_eq!(looks.failing_in_order(start), FAILING_IN_ORDER_MAX);
        let took = Duration::from_secs(3);
        looks.note(start, start + took);
        assert_eq!(looks.failing_in_order(start + took * 10), 0);
        // Claims that do not look at them change nothing.
        looks.note(start + took * 2, start + took * 9);
        assert_eq!(looks.failing_in_order(start + took * 11), FAILING_IN_ORDER_MAX);
        // However fast it is, there is a pause.
        let later = start + took * 11;
        looks.note(later, later);
        assert_eq!(looks.failing_in_order(later + FAILING_PAUSE_MIN / 2), 0);
        assert_eq!(looks.failing_in_order(later + FAILING_PAUSE_MIN), FAILING_IN_ORDER_MAX);
    }
}

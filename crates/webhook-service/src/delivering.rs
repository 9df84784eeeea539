//! Attempts to deliver events to webhooks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_model::TenantName;
use starling_webhooks::{
    AttemptEnd, Busy, Client, Delivered, Delivery, DeliveryClaim, DeliveryState, DueDelivery, Error, Noted,
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
/// With so many claims, deliveries wait for the places of their own webhook or tenant: half of those of a webhook, since some have just ended
/// when somebody looks, and a quarter of a node's, which each of three such tenants has.
pub(crate) const BUSY: Busy = Busy { of_webhook: 4, of_tenant: 16 };
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
/// Why an attempt failed that was answered with 410 at an address that the webhook no longer has.
const GONE_ELSEWHERE: &str = "the answer was 410, but the webhook has another address now";

/// The attempts of a node that are under way.
#[derive(Default)]
struct UnderWay {
    attempts: JoinSet<()>,
    webhooks: HashMap<Id, (TenantName, WebhookId)>,
}

impl UnderWay {
    fn begin(&mut self, deliverer: &Arc<Deliverer>, due: DueDelivery) {
        let (deliverer, webhook) = (deliverer.clone(), (due.tenant.clone(), due.webhook));
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

    /// Returns which deliveries may be claimed; `None` if there are enough. A tenant never has more attempts under way than there are free
    /// places, so that the slow backends of some tenants leave places for the others: it has 32 if it is alone, and 24 beside a second one that
    /// wants as many.
    fn claim(&self, lasts: Duration, failing_in_order: u16) -> Option<DeliveryClaim> {
        let free = UNDER_WAY_MAX.saturating_sub(self.webhooks.len());
        if free == 0 {
            return None;
        }
        let mut webhooks: HashMap<WebhookId, usize> = HashMap::new();
        let mut tenants: HashMap<TenantName, usize> = HashMap::new();
        for (tenant, webhook) in self.webhooks.values() {
            *webhooks.entry(*webhook).or_default() += 1;
            *tenants.entry(tenant.clone()).or_default() += 1;
        }
        let (of_each, except) = shares(webhooks, OF_EACH_MAX);
        let (of_tenant, except_tenants) = shares(tenants, free);
        let count = |count: usize| u16::try_from(count).unwrap_or(1);
        // Half of what is free, so that as much is still free afterwards, for tenants that nobody knows of yet.
        let (limit, of_tenant) = (count(free.div_ceil(2)), count(of_tenant.div_ceil(2)));
        let of_each = count(of_each);
        Some(DeliveryClaim { limit, of_each, of_tenant, except, except_tenants, failing_in_order, lasts })
    }
}

/// Returns how many more each may have, and those that have `most` already.
fn shares<K>(counts: HashMap<K, usize>, most: usize) -> (usize, Vec<K>) {
    let busiest = counts.values().filter(|count| **count < most).max();
    let left = most - busiest.copied().unwrap_or_default();
    (left, counts.into_iter().filter(|(_, count)| *count >= most).map(|(of, _)| of).collect())
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
                if self.store.remove_gone(tenant, webhook, &due.endpoint).await? {
                    tracing::info!(tenant = &**tenant, %webhook, "a backend wants no more events; its webhook is removed");
                    self.knowledge.learn_of_own().await;
                    return Ok(());
                }
                // Its owner has given the webhook another address meanwhile, which gets the event.
                (DeliveryState::Waiting, Some(GONE_ELSEWHERE.to_owned()), Duration::ZERO)
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
        let claimed_until_ms = due.claimed_until_ms;
        let end = AttemptEnd { claimed_until_ms, state, status, reason, answer, again_after };
        let noted = self.store.note_attempt(tenant, webhook, due.event, &end, self.times.pause_after).await?;
        match noted {
            Noted::Paused => {
                tracing::warn!(tenant = &**tenant, %webhook, "a webhook has failed for too long and is paused");
            }
            Noted::NotClaimed => {
                tracing::debug!(tenant = &**tenant, %webhook, event = %due.event, "an attempt ended after its claim");
            }
            Noted::Kept => {}
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
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (32, 8, vec![]));
        add(&mut under_way, "t", one, 5);
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (30, 3, vec![]));
        add(&mut under_way, "t", one, 3);
        add(&mut under_way, "t", other, 1);
        let claim = under_way.claim(LOOK_EVERY, 0).unwrap();
        assert_eq!((claim.limit, claim.of_each, claim.except), (28, 7, vec![one]));
        for _ in 0..55 {
            add(&mut under_way, "t", WebhookId::new(), 1);
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

    #[tokio::test]
    async fn however_many_a_tenant_wants_there_are_places_for_the_next_one() {
        let mut under_way = UnderWay::default();
        let mut shares = Vec::new();
        // Each tenant takes all that it may have, before the next one wants anything.
        for tenant in ["a", "b", "c", "d", "e", "f"] {
            let mut taken = 0;
            while let Some(claim) = under_way.claim(LOOK_EVERY, 0)
                && !claim.except_tenants.contains(&tenant.into())
            {
                assert!(claim.of_tenant > 0 && claim.of_tenant <= claim.limit, "{claim:?}");
                add(&mut under_way, tenant, WebhookId::new(), claim.of_tenant);
                taken += claim.of_tenant;
            }
            shares.push(taken);
        }
        assert_eq!(shares, [32, 16, 8, 4, 2, 1]);
        // Two that want all they can get at the same time have the same.
        let mut under_way = UnderWay::default();
        while let Some(claim) = under_way.claim(LOOK_EVERY, 0)
            && claim.except_tenants.is_empty()
        {
            for tenant in ["a", "b"] {
                add(&mut under_way, tenant, WebhookId::new(), claim.of_tenant.min(claim.limit / 2));
            }
        }
        assert_eq!(under_way.webhooks.len(), 48);
    }

    fn add(under_way: &mut UnderWay, tenant: &str, id: WebhookId, count: u16) {
        for _ in 0..count {
            let task = under_way.attempts.spawn(std::future::pending());
            under_way.webhooks.insert(task.id(), (tenant.into(), id));
        }
    }
}

//! Totals over all webhooks.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_webhooks::{
    AttemptEnd, Busy, DeliveryClaim, DeliveryState, EventType, Events, NewWebhook, WebhookChange,
    WebhookOverview,
};

use crate::place::{Place, event_of, message, new_webhook};

const HOUR: Duration = Duration::from_secs(60 * 60);
const BUSY: Busy = Busy { of_webhook: 2, of_tenant: 3 };

/// Makes everything that waits an hour older.
async fn an_hour_passes(place: &Place) -> Result<()> {
    let postgres = "WITH aged AS (
        UPDATE webhook_deliveries SET recorded_at = recorded_at - interval '1 hour', due_at = due_at - interval '1 hour',
            claimed_until = claimed_until - interval '1 hour' RETURNING 1
    ) SELECT count(*) FROM aged";
    let sqlite = "UPDATE webhook_deliveries SET recorded_at_ms = recorded_at_ms - 3600000, due_at_ms = due_at_ms - 3600000,
            claimed_until_ms = claimed_until_ms - 3600000 RETURNING 1";
    place.run(postgres, sqlite).await.map(drop)
}

/// An age as whole hours.
fn hours(age: Option<Duration>) -> Option<u64> {
    age.map(|age| age.as_secs() / HOUR.as_secs())
}

fn failed(again_after: Duration) -> AttemptEnd {
    AttemptEnd {
        claimed_until_ms: 0,
        state: DeliveryState::Waiting,
        status: None,
        reason: Some("no answer".into()),
        answer: String::new(),
        again_after,
    }
}

pub async fn what_waits_is_found_without_what_is_paused(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let [working, resting, failing] = [
        place.webhook(Events::All).await?,
        place.webhook(Events::All).await?,
        place.webhook(Events::All).await?,
    ]
    .map(|webhook| webhook.id);
    ensure!(store.overview(BUSY).await? == WebhookOverview::default());
    let pause = WebhookChange { paused: Some(true), ..WebhookChange::default() };
    store.change(&tenant, resting, &pause).await?;
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    // Its only attempt fails, and that was for long enough.
    place.note(failing, event.id, &failed(Duration::ZERO), Duration::ZERO).await?;
    an_hour_passes(place).await?;
    let overview = store.overview(BUSY).await?;
    ensure!((overview.paused_for_failures, overview.paused_by_hand) == (1, 1), "{overview:?}");
    ensure!(
        (hours(overview.oldest_waiting), hours(overview.oldest_due)) == (Some(1), Some(1)),
        "{overview:?}"
    );
    // A failed attempt: the event still waits, and nothing is to be done for two hours.
    place.note(working, event.id, &failed(2 * HOUR), 9 * HOUR).await?;
    let overview = store.overview(BUSY).await?;
    ensure!((hours(overview.oldest_waiting), overview.oldest_due) == (Some(1), None), "{overview:?}");
    store.change(&tenant, working, &pause).await?;
    let overview = store.overview(BUSY).await?;
    ensure!((overview.oldest_waiting, overview.oldest_due) == (None, None), "{overview:?}");
    ensure!((overview.paused_for_failures, overview.paused_by_hand) == (2, 1), "{overview:?}");
    Ok(())
}

pub async fn a_delivery_behind_another_in_its_order_is_not_due(place: &Place) -> Result<()> {
    let store = place.store();
    let webhook = place.added(&NewWebhook { ordered: true, ..new_webhook("t", Events::All) }).await?.id;
    let [first, second] = [(); 2].map(|()| event_of("t", EventType::MessageCreated, "c"));
    let (first, second) = (first?, second?);
    store.record(&[first.clone(), second]).await?;
    an_hour_passes(place).await?;
    ensure!(store.claim(&claim(9)).await?.len() == 1);
    let overview = store.overview(BUSY).await?;
    ensure!((hours(overview.oldest_waiting), overview.oldest_due) == (Some(1), None), "{overview:?}");
    let done = AttemptEnd { state: DeliveryState::Delivered, reason: None, ..failed(Duration::ZERO) };
    place.note(webhook, first.id, &done, HOUR).await?;
    ensure!(hours(store.overview(BUSY).await?.oldest_due) == Some(1), "the next one may be attempted");
    Ok(())
}

/// A claim of so many deliveries of each webhook, for four hours.
fn claim(of_each: u16) -> DeliveryClaim {
    let (except, except_tenants) = (Vec::new(), Vec::new());
    let (failing_in_order, lasts) = (99, 4 * HOUR);
    DeliveryClaim { limit: 99, of_each, of_tenant: 99, except, except_tenants, failing_in_order, lasts }
}

pub async fn what_waits_for_its_own_backend_is_not_due(place: &Place) -> Result<()> {
    let store = place.store();
    let slow = place.added(&new_webhook("t", Events::All)).await?.id;
    store.record(&[message()?, message()?, message()?, message()?]).await?;
    an_hour_passes(place).await?;
    let due = async || -> Result<Option<u64>> { Ok(hours(store.overview(BUSY).await?.oldest_due)) };
    ensure!(
        store.claim(&claim(1)).await?.len() == 1 && due().await? == Some(1),
        "a node may take another one"
    );
    ensure!(
        store.claim(&claim(1)).await?.len() == 1 && due().await?.is_none(),
        "it has the places that it gets"
    );
    ensure!(hours(store.overview(BUSY).await?.oldest_waiting) == Some(1), "its events wait all the same");
    // Another webhook of the tenant waits for a node, until the tenant has the places that it gets.
    let other = place.added(&new_webhook("t", Events::All)).await?.id;
    for key in ["a", "b"] {
        let event = event_of("t", EventType::MessageCreated, key)?;
        ensure!(store.record_for(other, &event).await?);
    }
    an_hour_passes(place).await?;
    ensure!(due().await? == Some(1));
    let only = DeliveryClaim { except: vec![slow], ..claim(1) };
    ensure!(store.claim(&only).await?.len() == 1 && due().await?.is_none(), "three are under way");
    // A tenant with none under way does wait for a node.
    place.added(&new_webhook("u", Events::All)).await?;
    store.record(&[event_of("u", EventType::MessageCreated, "c")?]).await?;
    an_hour_passes(place).await?;
    ensure!(due().await? == Some(1));
    // Claims that are over count no more: whoever had them is gone.
    for _ in 0..2 {
        an_hour_passes(place).await?;
    }
    ensure!(due().await? == Some(5));
    Ok(())
}

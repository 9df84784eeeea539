//! Totals over all webhooks.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_webhooks::{
    AttemptEnd, DeliveryClaim, DeliveryState, Events, NewWebhook, WebhookChange, WebhookOverview,
};

use crate::place::{Place, event_of, message, new_webhook};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Makes everything that waits an hour older.
async fn an_hour_passes(place: &Place) -> Result<()> {
    let postgres = "WITH aged AS (
        UPDATE webhook_deliveries SET recorded_at = recorded_at - interval '1 hour', due_at = due_at - interval '1 hour' RETURNING 1
    ) SELECT count(*) FROM aged";
    let sqlite = "UPDATE webhook_deliveries SET recorded_at_ms = recorded_at_ms - 3600000, due_at_ms = due_at_ms - 3600000
        RETURNING 1";
    place.run(postgres, sqlite).await.map(drop)
}

/// An age as whole hours.
fn hours(age: Option<Duration>) -> Option<u64> {
    age.map(|age| age.as_secs() / HOUR.as_secs())
}

fn failed(again_after: Duration) -> AttemptEnd {
    AttemptEnd {
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
    ensure!(store.overview().await? == WebhookOverview::default());
    let pause = WebhookChange { paused: Some(true), ..WebhookChange::default() };
    store.change(&tenant, resting, &pause).await?;
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    // Its only attempt fails, and that was for long enough.
    store.note_attempt(&tenant, failing, event.id, &failed(Duration::ZERO), Duration::ZERO).await?;
    an_hour_passes(place).await?;
    let overview = store.overview().await?;
    ensure!((overview.paused_for_failures, overview.paused_by_hand) == (1, 1), "{overview:?}");
    ensure!(
        (hours(overview.oldest_waiting), hours(overview.oldest_due)) == (Some(1), Some(1)),
        "{overview:?}"
    );
    // A failed attempt: the event still waits, and nothing is to be done for two hours.
    store.note_attempt(&tenant, working, event.id, &failed(2 * HOUR), 9 * HOUR).await?;
    let overview = store.overview().await?;
    ensure!((hours(overview.oldest_waiting), overview.oldest_due) == (Some(1), None), "{overview:?}");
    store.change(&tenant, working, &pause).await?;
    let overview = store.overview().await?;
    ensure!((overview.oldest_waiting, overview.oldest_due) == (None, None), "{overview:?}");
    ensure!((overview.paused_for_failures, overview.paused_by_hand) == (2, 1), "{overview:?}");
    Ok(())
}

pub async fn a_delivery_behind_another_in_its_order_is_not_due(place: &Place) -> Result<()> {
    let store = place.store();
    let webhook = place.added(&NewWebhook { ordered: true, ..new_webhook("t", Events::All) }).await?.id;
    let [first, second] = [(); 2].map(|()| event_of("t", starling_webhooks::EventType::MessageCreated, "c"));
    let (first, second) = (first?, second?);
    store.record(&[first.clone(), second]).await?;
    an_hour_passes(place).await?;
    let claim = DeliveryClaim {
        limit: 9,
        of_each: 9,
        of_tenant: 9,
        except: Vec::new(),
        except_tenants: Vec::new(),
        lasts: 2 * HOUR,
    };
    ensure!(store.claim(&claim).await?.len() == 1);
    let overview = store.overview().await?;
    ensure!((hours(overview.oldest_waiting), overview.oldest_due) == (Some(1), None), "{overview:?}");
    let done = AttemptEnd { state: DeliveryState::Delivered, reason: None, ..failed(Duration::ZERO) };
    store.note_attempt(&"t".into(), webhook, first.id, &done, HOUR).await?;
    ensure!(hours(store.overview().await?.oldest_due) == Some(1), "the next one may be attempted");
    Ok(())
}

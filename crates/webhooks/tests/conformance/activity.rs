//! What goes on at webhooks, and tests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_webhooks::{
    AttemptEnd, DeliveryState, EventId, EventType, Events, NewEvent, WebhookActivity, WebhookId,
};

use crate::place::{Place, event_of, message, new_webhook};

/// Longer than any test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn activity_of(place: &Place, webhook: WebhookId, attempts: u16) -> Result<WebhookActivity> {
    let mut found = place.store().activity(&"t".into(), &[webhook], attempts).await?;
    found.pop().context("no such webhook")
}

/// Notes an attempt that was answered with a status.
async fn attempt(place: &Place, webhook: WebhookId, event: EventId, status: Option<u16>) -> Result<()> {
    let delivered = status == Some(200);
    let end = AttemptEnd {
        claimed_until_ms: 0,
        state: if delivered { DeliveryState::Delivered } else { DeliveryState::Waiting },
        status,
        reason: (!delivered).then(|| "it failed".into()),
        answer: "an answer".into(),
        again_after: DAY,
    };
    place.note(webhook, event, &end, DAY).await?;
    // The order is that of whole milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

pub async fn the_newest_attempts_and_what_waits_are_shown(place: &Place) -> Result<()> {
    let store = place.store();
    let id = place.webhook(Events::All).await?.id;
    let quiet = place.webhook(Events::Types(vec![EventType::JobFailed])).await?.id;
    let events = (0..6).map(|_| message()).collect::<Result<Vec<NewEvent>>>()?;
    store.record(&events).await?;
    ensure!(activity_of(place, id, 10).await?.attempts.is_empty(), "nothing was attempted");
    attempt(place, id, events[2].id, Some(200)).await?;
    attempt(place, id, events[0].id, Some(503)).await?;
    attempt(place, id, events[1].id, None).await?;
    attempt(place, id, events[0].id, Some(500)).await?;
    let activity = activity_of(place, id, 10).await?;
    ensure!((activity.webhook, activity.waiting) == (id, 5), "{activity:?}");
    let shown: Vec<_> = activity.attempts.iter().map(|attempt| (attempt.event, attempt.status)).collect();
    let expected = [(events[0].id, Some(500)), (events[1].id, None), (events[2].id, Some(200))];
    ensure!(shown == expected, "{activity:?}");
    let newest = &activity.attempts[0];
    ensure!((&*newest.kind, newest.state) == ("message.created", DeliveryState::Waiting), "{newest:?}");
    ensure!(newest.reason.as_deref() == Some("it failed") && newest.ended_at_ms > 1_700_000_000_000);
    ensure!(activity.attempts[2].reason.is_none() && activity.attempts[2].state == DeliveryState::Delivered);
    ensure!(activity_of(place, id, 1).await?.attempts == activity.attempts[..1]);

    // Many newer deliveries wait for their first attempt.
    let many = (0..130).map(|_| message()).collect::<Result<Vec<NewEvent>>>()?;
    store.record(&many).await?;
    let behind = activity_of(place, id, 10).await?;
    ensure!(behind.waiting == 135 && behind.attempts == activity.attempts[..2], "{behind:?}");

    let all = store.activity(&"t".into(), &[quiet, WebhookId::new(), id], 10).await?;
    let order: Vec<WebhookId> = all.iter().map(|activity| activity.webhook).collect();
    ensure!(order == [quiet, id] && all[0].waiting == 0 && all[0].attempts.is_empty(), "{all:?}");
    ensure!(store.activity(&"u".into(), &[id], 10).await?.is_empty(), "it is another tenant's");
    Ok(())
}

pub async fn a_test_goes_to_one_webhook_whatever_it_wants(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let tested = place.webhook(Events::Types(vec![EventType::JobFailed])).await?.id;
    let other = place.webhook(Events::All).await?.id;
    let foreign = place.added(&new_webhook("u", Events::All)).await?.id;
    let test = event_of("t", EventType::WebhookTest, "c")?;
    for _ in 0..2 {
        ensure!(store.record_for(tested, &test).await?);
    }
    let deliveries = store.deliveries(&tenant, tested, None, 10).await?;
    ensure!(deliveries.len() == 1 && deliveries[0].event == test.id, "{deliveries:?}");
    ensure!((&*deliveries[0].kind, deliveries[0].state) == ("webhook.test", DeliveryState::Waiting));
    let details = store.delivery(&tenant, tested, test.id).await?.context("a delivery")?;
    ensure!(details.body == test.body() && details.order_key.as_deref() == Some("c"), "{details:?}");
    ensure!(store.deliveries(&tenant, other, None, 10).await?.is_empty());
    ensure!(!store.record_for(foreign, &test).await?, "it is another tenant's");
    ensure!(!store.record_for(WebhookId::new(), &test).await?);
    Ok(())
}

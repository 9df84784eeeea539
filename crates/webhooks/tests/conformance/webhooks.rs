//! Adding, listing, changing and removing webhooks.

use anyhow::{Context, Result, ensure};
use starling_webhooks::{
    AttemptEnd, DeliveryState, Endpoint, EventType, Events, NewWebhook, Noted, Retention, Rotated, Secret,
    Trimmed, WebhookChange, WebhookId,
};

use crate::place::{Place, message, new_webhook};

pub async fn a_webhook_is_kept_as_it_was_given(place: &Place) -> Result<()> {
    let (store, secret) = (place.store(), Secret::generate());
    let given = NewWebhook {
        endpoint: Endpoint::parse("https://bücher.example:8443/a?b=c%20d")?,
        ordered: true,
        ..new_webhook("t", Events::Types(vec![EventType::UserOnline, EventType::MessageCreated]))
    };
    let added = store.add(&given, &secret, 1).await?.context("too many")?;
    ensure!(
        (added.id, &added.tenant, &added.endpoint) == (given.id, &given.tenant, &given.endpoint),
        "{added:?}"
    );
    ensure!((&added.events, added.ordered, added.paused) == (&given.events, true, false), "{added:?}");
    ensure!(added.failing_since_ms.is_none() && added.created_at_ms > 1_700_000_000_000, "{added:?}");
    ensure!(store.webhook(&given.tenant, given.id).await? == Some(added.clone()));
    ensure!(store.webhooks(&given.tenant, None, 10).await? == [added]);
    ensure!(store.secrets(&given.tenant, given.id).await? == [secret]);
    ensure!(store.webhook(&given.tenant, WebhookId::new()).await?.is_none());
    Ok(())
}

pub async fn a_webhook_added_again_is_not_added_twice(place: &Place) -> Result<()> {
    let (store, secret) = (place.store(), Secret::generate());
    let webhook = new_webhook("t", Events::All);
    for _ in 0..2 {
        ensure!(store.add(&webhook, &secret, 1).await?.is_some());
    }
    ensure!(store.webhooks(&webhook.tenant, None, 10).await?.len() == 1);
    ensure!(store.secrets(&webhook.tenant, webhook.id).await? == [secret]);
    Ok(())
}

pub async fn a_tenant_has_no_more_webhooks_than_it_may(place: &Place) -> Result<()> {
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = place.store();
        adding.spawn(async move { store.add(&new_webhook("t", Events::All), &Secret::generate(), 5).await });
    }
    let (mut added, mut refused) = (0, 0);
    while let Some(answer) = adding.join_next().await {
        match answer?? {
            Some(_) => added += 1,
            None => refused += 1,
        }
    }
    ensure!((added, refused) == (5, 7), "{added} were added, {refused} refused");
    let store = place.store();
    ensure!(store.webhooks(&"t".into(), None, 100).await?.len() == 5);
    // Another tenant has its own limit, and one that was removed makes room.
    ensure!(store.add(&new_webhook("u", Events::All), &Secret::generate(), 5).await?.is_some());
    let first = store.webhooks(&"t".into(), None, 1).await?.pop().context("a webhook")?;
    store.remove(&"t".into(), first.id).await?;
    ensure!(store.add(&new_webhook("t", Events::All), &Secret::generate(), 5).await?.is_some());
    Ok(())
}

pub async fn a_change_changes_only_what_it_names(place: &Place) -> Result<()> {
    let (store, before) = (place.store(), place.webhook(Events::All).await?);
    let change = |change: WebhookChange| {
        let (store, id) = (place.store(), before.id);
        async move { store.change(&"t".into(), id, &change).await }
    };
    ensure!(change(WebhookChange::default()).await? == Some(before.clone()));
    let endpoint = Endpoint::parse("https://other.example/")?;
    let moved = WebhookChange { endpoint: Some(endpoint.clone()), ..WebhookChange::default() };
    ensure!(change(moved).await?.context("it is gone")?.endpoint == endpoint);
    let events = Events::Types(vec![EventType::JobFailed]);
    let other = WebhookChange {
        events: Some(events.clone()),
        ordered: Some(true),
        paused: Some(true),
        endpoint: None,
    };
    let after = change(other).await?.context("it is gone")?;
    ensure!(
        (&after.endpoint, &after.events, after.ordered, after.paused) == (&endpoint, &events, true, true)
    );
    ensure!(store.webhook(&"t".into(), before.id).await? == Some(after));
    ensure!(store.change(&"t".into(), WebhookId::new(), &WebhookChange::default()).await?.is_none());
    Ok(())
}

pub async fn nothing_of_another_tenant_is_reached(place: &Place) -> Result<()> {
    let (store, other, webhook) = (place.store(), "u".into(), place.webhook(Events::All).await?);
    let (id, event) = (webhook.id, message()?);
    store.record(std::slice::from_ref(&event)).await?;
    let failed = AttemptEnd {
        claimed_until_ms: 0,
        state: DeliveryState::Failed,
        status: None,
        reason: Some("no".into()),
        answer: String::new(),
        again_after: std::time::Duration::ZERO,
    };
    let zero = std::time::Duration::ZERO;
    ensure!(store.webhook(&other, id).await?.is_none() && store.webhooks(&other, None, 10).await?.is_empty());
    ensure!(
        store
            .change(&other, id, &WebhookChange { paused: Some(true), ..Default::default() })
            .await?
            .is_none()
    );
    ensure!(store.rotate(&other, id, &Secret::generate()).await? == Rotated::NotFound);
    ensure!(store.secrets(&other, id).await?.is_empty());
    ensure!(store.deliveries(&other, id, None, 10).await?.is_empty());
    ensure!(store.waiting(&other, id, None, 10).await?.is_empty());
    ensure!(store.delivery(&other, id, event.id).await?.is_none());
    ensure!(store.first_in_order(&other, id, "c").await?.is_none());
    let claimed_until_ms = place.claimed_until_ms(id, event.id).await?;
    let foreign = AttemptEnd { claimed_until_ms, ..failed.clone() };
    ensure!(store.note_attempt(&other, id, event.id, &foreign, zero).await? == Noted::NotClaimed);
    ensure!(store.trim(&other, id, Retention { ended: 0, waiting: 0 }).await? == Trimmed::default());
    ensure!(!store.remove(&other, id).await?);
    // Nothing has changed, and its own tenant reaches all of it.
    let own = webhook.tenant.clone();
    ensure!(store.webhook(&own, id).await? == Some(webhook) && store.secrets(&own, id).await?.len() == 1);
    ensure!(store.first_in_order(&own, id, "c").await? == Some(event.id));
    ensure!(place.note(id, event.id, &failed, zero).await? == Noted::Paused);
    ensure!(!store.resend(&other, id, event.id).await? && store.resend(&own, id, event.id).await?);
    Ok(())
}

pub async fn a_webhook_that_is_removed_leaves_nothing(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let (webhook, kept) = (place.webhook(Events::All).await?, place.webhook(Events::All).await?);
    store.record(&[message()?, message()?]).await?;
    ensure!(store.remove(&tenant, webhook.id).await? && !store.remove(&tenant, webhook.id).await?);
    let left = "SELECT (SELECT count(*) FROM webhooks) * 100 + (SELECT count(*) FROM webhook_secrets) * 10
        + (SELECT count(*) FROM webhook_deliveries)";
    ensure!(place.run(left, left).await? == 112, "one webhook, its secret and its two deliveries are left");
    ensure!(store.webhook(&tenant, kept.id).await? == Some(kept));
    Ok(())
}

pub async fn a_backend_that_is_gone_loses_no_webhook_that_goes_elsewhere(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let given = NewWebhook {
        endpoint: Endpoint::parse("https://bücher.example:8443/a?b=c%20d")?,
        ..new_webhook("t", Events::All)
    };
    let webhook = place.added(&given).await?;
    store.record(&[message()?]).await?;
    let next = Endpoint::parse("https://other.example/")?;
    let change = WebhookChange { endpoint: Some(next.clone()), ..WebhookChange::default() };
    store.change(&tenant, webhook.id, &change).await?;
    ensure!(!store.remove_gone(&tenant, webhook.id, &webhook.endpoint).await?);
    ensure!(store.deliveries(&tenant, webhook.id, None, 10).await?.len() == 1);
    ensure!(!store.remove_gone(&"u".into(), webhook.id, &next).await?, "it is another tenant's");
    let back = WebhookChange { endpoint: Some(given.endpoint), ..WebhookChange::default() };
    store.change(&tenant, webhook.id, &back).await?;
    ensure!(store.remove_gone(&tenant, webhook.id, &webhook.endpoint).await?);
    ensure!(store.webhook(&tenant, webhook.id).await?.is_none());
    Ok(())
}

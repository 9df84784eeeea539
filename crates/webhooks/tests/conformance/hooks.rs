//! Hooks that ask first.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_webhooks::{
    Endpoint, Events, Hook, HookPoint, NewWebhook, OnFailure, Registry, Rotated, Secret, WebhookChange,
    WebhookId,
};

use crate::place::Place;

fn hook(tenant: &str, point: HookPoint) -> Hook {
    Hook {
        tenant: tenant.into(),
        point,
        endpoint: Endpoint::parse("https://example.com/ask").expect("an endpoint"),
        timeout: Duration::from_millis(1250),
        on_failure: OnFailure::Refuse,
    }
}

pub async fn a_hook_is_kept_as_it_was_given(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    for point in HookPoint::ALL {
        let (given, secret) = (hook("t", point), Secret::generate());
        ensure!(store.hook(&tenant, point).await?.is_none());
        ensure!(store.put_hook(&given, &secret).await?);
        ensure!(store.hook(&tenant, point).await? == Some((given, vec![secret])));
    }
    let points: Vec<_> = store.hooks(&tenant).await?.iter().map(|hook| hook.point.as_str()).collect();
    ensure!(points == ["connect", "create", "join", "publish", "send", "subscribe"], "{points:?}");
    ensure!(store.remove_hook(&tenant, HookPoint::Join).await?);
    ensure!(!store.remove_hook(&tenant, HookPoint::Join).await?);
    ensure!(store.hooks(&tenant).await?.len() == 5);
    Ok(())
}

pub async fn a_hook_that_is_changed_keeps_its_secret(place: &Place) -> Result<()> {
    let (store, secret) = (place.store(), Secret::generate());
    let first = hook("t", HookPoint::Send);
    ensure!(store.put_hook(&first, &secret).await?);
    let changed = Hook {
        endpoint: Endpoint::parse("https://other.example/")?,
        timeout: Duration::from_secs(5),
        on_failure: OnFailure::Allow,
        ..first
    };
    ensure!(!store.put_hook(&changed, &Secret::generate()).await?, "it is not new");
    ensure!(store.hook(&"t".into(), HookPoint::Send).await? == Some((changed, vec![secret])));
    Ok(())
}

pub async fn a_secret_that_was_replaced_signs_for_a_day_as_well(place: &Place) -> Result<()> {
    let (store, tenant, point) = (place.store(), "t".into(), HookPoint::Send);
    let [first, second, third] = [(); 3].map(|()| Secret::generate());
    ensure!(store.rotate_hook(&tenant, point, &second).await? == Rotated::NotFound);
    store.put_hook(&hook("t", point), &first).await?;
    let known = store.registry(0).await?.context("a hook")?.version;
    ensure!(store.rotate_hook(&"u".into(), point, &second).await? == Rotated::NotFound);
    ensure!(store.rotate_hook(&tenant, point, &second).await? == Rotated::Rotated);
    let both = vec![second.clone(), first];
    ensure!(store.hook(&tenant, point).await? == Some((hook("t", point), both.clone())));
    let registry = store.registry(known).await?.context("nodes must learn of it")?;
    ensure!(registry.hooks == [(hook("t", point), both.clone())]);
    ensure!(store.rotate_hook(&tenant, point, &third).await? == Rotated::TooMany);
    // A change of the hook changes no secret.
    ensure!(!store.put_hook(&hook("t", point), &third).await?);
    ensure!(store.hook(&tenant, point).await?.is_some_and(|(_, secrets)| secrets == both));
    let postgres = "WITH ended AS (UPDATE webhook_hooks SET previous_until = clock_timestamp() RETURNING 1) SELECT count(*) FROM ended";
    place.run(postgres, "UPDATE webhook_hooks SET previous_until_ms = 1 RETURNING 1").await?;
    ensure!(store.hook(&tenant, point).await?.is_some_and(|(_, secrets)| secrets == [second.clone()]));
    ensure!(store.rotate_hook(&tenant, point, &third).await? == Rotated::Rotated);
    ensure!(store.hook(&tenant, point).await?.is_some_and(|(_, secrets)| secrets == [third, second]));
    Ok(())
}

pub async fn hooks_of_another_tenant_are_not_reached(place: &Place) -> Result<()> {
    let (store, other) = (place.store(), "u".into());
    store.put_hook(&hook("t", HookPoint::Send), &Secret::generate()).await?;
    ensure!(store.hooks(&other).await?.is_empty() && store.hook(&other, HookPoint::Send).await?.is_none());
    ensure!(!store.remove_hook(&other, HookPoint::Send).await?);
    ensure!(store.put_hook(&hook("u", HookPoint::Send), &Secret::generate()).await?, "each has its own");
    Ok(())
}

pub async fn every_change_is_in_the_next_registry(place: &Place) -> Result<()> {
    let (store, tenant, secret) = (place.store(), "t".into(), Secret::generate());
    let mut known = 0;
    let mut next = async || -> Result<Registry> {
        let registry = store.registry(known).await?.context("a new version")?;
        ensure!(store.registry(registry.version).await?.is_none(), "nothing has changed since");
        known = registry.version;
        Ok(registry)
    };
    ensure!(next().await?.hooks.is_empty());
    let given = hook("t", HookPoint::Send);
    store.put_hook(&given, &secret).await?;
    ensure!(next().await?.hooks == [(given.clone(), vec![secret.clone()])]);
    let changed = Hook { on_failure: OnFailure::Allow, ..given };
    store.put_hook(&changed, &Secret::generate()).await?;
    ensure!(next().await?.hooks == [(changed, vec![secret.clone()])]);
    store.remove_hook(&tenant, HookPoint::Send).await?;
    ensure!(next().await?.hooks.is_empty());

    let id = WebhookId::new();
    let events = Events::parse(["user.online"])?;
    let endpoint = Endpoint::parse("https://example.com/")?;
    let new = NewWebhook { id, tenant: tenant.clone(), endpoint, events: events.clone(), ordered: false };
    store.add(&new, &secret, 10).await?;
    ensure!(next().await?.wanted == [(tenant.clone(), id, events)]);
    let change = WebhookChange { events: Some(Events::All), ..WebhookChange::default() };
    store.change(&tenant, id, &change).await?;
    ensure!(next().await?.wanted == [(tenant.clone(), id, Events::All)]);
    store.remove(&tenant, id).await?;
    ensure!(next().await?.wanted.is_empty());
    Ok(())
}

pub async fn a_hook_that_cannot_be_read_refuses_and_hides_no_other(place: &Place) -> Result<()> {
    let (store, secret) = (place.store(), Secret::generate());
    let [broken, well] = [HookPoint::Join, HookPoint::Send]
        .map(|point| Hook { on_failure: OnFailure::Allow, ..hook("t", point) });
    for hook in [&broken, &well] {
        store.put_hook(hook, &secret).await?;
    }
    for (column, value) in [("url", "unix:/run/app.sock"), ("on_failure", "ask again"), ("secret", "v2:key")]
    {
        let update =
            format!("UPDATE webhook_hooks SET {column} = '{value}' WHERE point = 'join' RETURNING 1");
        place.run(&format!("WITH broken AS ({update}) SELECT count(*) FROM broken"), &update).await?;
        let registry = store.registry(0).await?.context("hooks")?;
        let found = |point| registry.hooks.iter().find(|(hook, _)| hook.point == point);
        ensure!(found(HookPoint::Send) == Some(&(well.clone(), vec![secret.clone()])), "{registry:?}");
        let (refusing, _) = found(HookPoint::Join).context("nobody decides about joining")?;
        ensure!(refusing.on_failure == OnFailure::Refuse, "{column}: {refusing:?}");
        ensure!(refusing.endpoint != broken.endpoint && refusing.check().is_ok(), "{column}: {refusing:?}");
    }
    Ok(())
}

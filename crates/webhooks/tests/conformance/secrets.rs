//! Secrets that are replaced.

use anyhow::{Result, ensure};
use starling_webhooks::{Events, Rotated, SECRETS_MAX, Secret};

use crate::place::Place;

pub async fn a_secret_that_was_replaced_signs_for_a_day(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let first = store.secrets(&tenant, id).await?;
    let second = Secret::generate();
    ensure!(store.rotate(&tenant, id, &second).await? == Rotated::Rotated);
    ensure!(store.secrets(&tenant, id).await? == [second.clone(), first[0].clone()]);
    let hours = place
        .run(
            "SELECT round(extract(epoch FROM signs_until - clock_timestamp()) / 3600)::bigint FROM webhook_secrets
             WHERE signs_until IS NOT NULL",
            "SELECT CAST(round(signs_until_ms / 3600e3 - unixepoch() / 3600e0) AS INTEGER) FROM webhook_secrets
             WHERE signs_until_ms IS NOT NULL",
        )
        .await?;
    ensure!(hours == 24, "{hours} hours");
    place.end_replaced_secrets().await?;
    ensure!(store.secrets(&tenant, id).await? == [second]);
    Ok(())
}

pub async fn only_a_few_secrets_sign_at_a_time(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    for _ in 1..SECRETS_MAX {
        ensure!(store.rotate(&tenant, id, &Secret::generate()).await? == Rotated::Rotated);
    }
    let signing = store.secrets(&tenant, id).await?;
    ensure!(signing.len() == SECRETS_MAX as usize);
    ensure!(store.rotate(&tenant, id, &Secret::generate()).await? == Rotated::TooMany);
    ensure!(store.secrets(&tenant, id).await? == signing, "a refused rotation changed the secrets");
    place.end_replaced_secrets().await?;
    ensure!(store.rotate(&tenant, id, &Secret::generate()).await? == Rotated::Rotated);
    ensure!(store.secrets(&tenant, id).await?.len() == 2);
    Ok(())
}

pub async fn many_rotations_at_once_leave_one_newest_secret(place: &Place) -> Result<()> {
    let id = place.webhook(Events::All).await?.id;
    let mut rotating = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = place.store();
        rotating.spawn(async move { store.rotate(&"t".into(), id, &Secret::generate()).await });
    }
    let mut rotated = 0;
    while let Some(answer) = rotating.join_next().await {
        rotated += u32::from(answer?? == Rotated::Rotated);
    }
    ensure!(rotated == SECRETS_MAX - 1, "{rotated}");
    let newest = place
        .run(
            "SELECT count(*) FROM webhook_secrets WHERE signs_until IS NULL",
            "SELECT count(*) FROM webhook_secrets WHERE signs_until_ms IS NULL",
        )
        .await?;
    ensure!(newest == 1, "{newest} have no end");
    Ok(())
}

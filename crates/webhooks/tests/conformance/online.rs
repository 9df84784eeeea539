//! Who is online, over several runs of nodes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use starling_webhooks::{
    BeatOutcome, EventType, Events, MoveOutcome, NodeRun, OrphanedUser, UserMove, WebhookId,
};
use starling_wire::protocol::Timestamp;

use crate::place::{Place, new_webhook};

/// Longer than any test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn came(user: &str) -> UserMove {
    UserMove::came("t".into(), user.into(), Timestamp(1_796_126_400_000))
}

fn went(user: &str) -> UserMove {
    UserMove::went("t".into(), user.into(), Timestamp(1_796_126_400_000))
}

fn webhook_of(kinds: &[EventType]) -> Events {
    Events::Types(kinds.to_vec())
}

async fn run(place: &Place) -> Result<NodeRun> {
    let run = NodeRun::new();
    place.store().list_run(run).await?;
    Ok(run)
}

/// The types and users of a webhook's deliveries, the oldest first.
async fn told(place: &Place, webhook: WebhookId) -> Result<Vec<String>> {
    let (store, tenant) = (place.store(), "t".into());
    let mut told = Vec::new();
    for delivery in store.deliveries(&tenant, webhook, None, 1000).await?.into_iter().rev() {
        let details = store.delivery(&tenant, webhook, delivery.event).await?;
        let body: serde_json::Value = serde_json::from_str(&details.map(|of| of.body).unwrap_or_default())?;
        told.push(format!("{} {}", delivery.kind, body["data"]["user"].as_str().unwrap_or_default()));
    }
    Ok(told)
}

pub async fn a_user_is_told_once_over_all_nodes(place: &Place) -> Result<()> {
    let (store, all) = (place.store(), place.webhook(Events::All).await?.id);
    let offline = place.webhook(webhook_of(&[EventType::UserOffline])).await?.id;
    let none = place.webhook(webhook_of(&[EventType::MessageCreated])).await?.id;
    let other = place.added(&new_webhook("u", Events::All)).await?.id;
    let (a, b) = (run(place).await?, run(place).await?);
    ensure!(store.users_came(a, &[came("ann"), came("bob")]).await? == MoveOutcome::Recorded(2));
    ensure!(store.users_came(b, &[came("ann")]).await? == MoveOutcome::Recorded(0), "she is online already");
    ensure!(store.users_came(a, &[came("ann")]).await? == MoveOutcome::Recorded(0), "an answer was lost");
    ensure!(store.users_went(a, &[went("ann"), went("bob")]).await? == 2, "bob, at two webhooks");
    ensure!(store.users_went(a, &[went("ann")]).await? == 0);
    ensure!(store.users_went(b, &[went("ann"), went("eve")]).await? == 2);
    ensure!(store.users_came(b, &[came("ann")]).await? == MoveOutcome::Recorded(1));
    let expected =
        ["user.online ann", "user.online bob", "user.offline bob", "user.offline ann", "user.online ann"];
    let found = told(place, all).await?;
    ensure!(found == expected, "{found:?}");
    ensure!(told(place, offline).await? == ["user.offline bob", "user.offline ann"]);
    ensure!(told(place, none).await?.is_empty());
    ensure!(store.deliveries(&"u".into(), other, None, 10).await?.is_empty());
    Ok(())
}

pub async fn users_of_a_dead_run_go_offline_unless_they_are_elsewhere(place: &Place) -> Result<()> {
    let (store, all) = (place.store(), place.webhook(Events::All).await?.id);
    let (dead, living) = (run(place).await?, run(place).await?);
    store.users_came(dead, &[came("ann"), came("bob")]).await?;
    store.users_came(living, &[came("ann")]).await?;
    ensure!(store.reap_runs(living, DAY, 10).await?.is_empty(), "it is not silent");
    // Time passes.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let first = store.reap_runs(living, Duration::ZERO, 1).await?;
    ensure!(first.len() == 1 && first[0].run == dead, "{first:?}");
    // It lives after all, and is told that nobody counts it any more.
    ensure!(store.beat_run(dead, DAY).await? == BeatOutcome::Dead);
    ensure!(store.users_came(dead, &[came("eve")]).await? == MoveOutcome::Dead);
    let mut left = store.reap_runs(living, DAY, 10).await?;
    left.sort_by(|one, other| one.user.cmp(&other.user));
    let of = |user: &str| OrphanedUser { run: dead, tenant: "t".into(), user: user.into() };
    ensure!(left == [of("ann"), of("bob")], "{left:?}");
    // Two nodes may do that at the same time.
    for told in [1, 0] {
        ensure!(store.users_went(dead, &[went("ann"), went("bob")]).await? == told);
    }
    ensure!(store.reap_runs(living, DAY, 10).await?.is_empty());
    let nodes = "SELECT count(*) FROM webhook_online_nodes";
    ensure!(place.run(nodes, nodes).await? == 1, "the dead one is forgotten");
    ensure!(told(place, all).await? == ["user.online ann", "user.online bob", "user.offline bob"]);
    // It comes back as another run.
    let again = run(place).await?;
    ensure!(store.users_came(again, &[came("bob")]).await? == MoveOutcome::Recorded(1));
    Ok(())
}

pub async fn a_run_watches_others_once_it_has_sent_beats_for_long_enough(place: &Place) -> Result<()> {
    let (store, one) = (place.store(), run(place).await?);
    ensure!(store.beat_run(one, DAY).await? == BeatOutcome::Alive);
    ensure!(store.beat_run(one, Duration::ZERO).await? == BeatOutcome::MayReap);
    // A beat after a silence begins anew.
    tokio::time::sleep(Duration::from_millis(30)).await;
    ensure!(store.beat_run(one, Duration::from_millis(20)).await? == BeatOutcome::Alive);
    ensure!(store.beat_run(NodeRun::new(), DAY).await? == BeatOutcome::Dead);
    store.users_came(one, &[came("ann")]).await?;
    store.unlist_run(one).await?;
    ensure!(store.beat_run(one, DAY).await? == BeatOutcome::Alive, "it has a user");
    store.users_went(one, &[went("ann")]).await?;
    store.unlist_run(one).await?;
    ensure!(store.beat_run(one, DAY).await? == BeatOutcome::Dead);
    Ok(())
}

pub async fn online_and_offline_alternate_although_nodes_race(place: &Place) -> Result<()> {
    let all = place.webhook(Events::All).await?.id;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (store, run) = (place.store(), run(place).await?);
        racing.spawn(async move {
            for _ in 0..15 {
                // In any order: the store must not deadlock.
                let mut users = ["ann", "bob", "cid"];
                users.rotate_left(number % 3);
                ensure!(store.users_came(run, &users.map(came)).await? != MoveOutcome::Dead);
                users.reverse();
                store.users_went(run, &users.map(went)).await?;
            }
            Ok(())
        });
    }
    while let Some(raced) = racing.join_next().await {
        raced??;
    }
    let found = told(place, all).await?;
    for user in ["ann", "bob", "cid"] {
        let of_user: Vec<&String> = found.iter().filter(|told| told.ends_with(user)).collect();
        ensure!(of_user.len() >= 2 && of_user.len().is_multiple_of(2), "{of_user:?}");
        for (place, told) in of_user.iter().enumerate() {
            let expected = if place % 2 == 0 { "user.online" } else { "user.offline" };
            ensure!(told.starts_with(expected), "{of_user:?}");
        }
    }
    let left =
        "SELECT (SELECT count(*) FROM webhook_online_users) + (SELECT count(*) FROM webhook_online_places)";
    ensure!(place.run(left, left).await? == 0);
    Ok(())
}

pub async fn many_users_come_and_go_in_few_transactions(place: &Place) -> Result<()> {
    const BATCH: usize = 500;
    let (store, one, other) = (place.store(), run(place).await?, run(place).await?);
    place.webhook(Events::All).await?;
    let names: Vec<String> = (0..4 * BATCH).map(|number| format!("user-{number}")).collect();
    // All come to a node, move to another one, and go.
    for (from, to) in [(None, Some(one)), (Some(one), Some(other)), (Some(other), None)] {
        let (began, mut told) = (Instant::now(), 0);
        for users in names.chunks(BATCH) {
            if let Some(to) = to {
                let moves: Vec<UserMove> = users.iter().map(|user| came(user)).collect();
                let MoveOutcome::Recorded(recorded) = store.users_came(to, &moves).await? else {
                    bail!("{to:?} is dead")
                };
                told += recorded;
            }
            if let Some(from) = from {
                let moves: Vec<UserMove> = users.iter().map(|user| went(user)).collect();
                told += store.users_went(from, &moves).await?;
            }
        }
        println!("{} users from {from:?} to {to:?}: {:?}", names.len(), began.elapsed());
        let is_move = from.is_some() && to.is_some();
        ensure!(told == if is_move { 0 } else { names.len() as u64 }, "{told}");
    }
    Ok(())
}

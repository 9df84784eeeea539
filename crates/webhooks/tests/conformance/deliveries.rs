//! Deliveries of events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_webhooks::{
    AttemptEnd, DeliveryClaim, DeliveryState, EventId, EventType, Events, Noted, REASON_BYTES_MAX, Retention,
    Trimmed, WebhookChange, WebhookId,
};

use crate::place::{Place, event, event_of, message, new_webhook};

/// Longer than any test.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn failed(state: DeliveryState) -> AttemptEnd {
    AttemptEnd {
        claimed_until_ms: 0,
        state,
        status: Some(503),
        reason: Some("the answer was 503".into()),
        answer: "busy".into(),
        again_after: Duration::ZERO,
    }
}

fn delivered() -> AttemptEnd {
    AttemptEnd {
        claimed_until_ms: 0,
        state: DeliveryState::Delivered,
        status: Some(204),
        reason: None,
        answer: String::new(),
        again_after: Duration::ZERO,
    }
}

fn paused(paused: bool) -> WebhookChange {
    WebhookChange { paused: Some(paused), ..WebhookChange::default() }
}

pub async fn an_event_waits_at_each_webhook_that_wants_it(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let all = place.webhook(Events::All).await?.id;
    let some =
        place.webhook(Events::Types(vec![EventType::MemberAdded, EventType::MessageCreated])).await?.id;
    let resting = place.webhook(Events::Types(vec![EventType::MessageCreated])).await?.id;
    store.change(&tenant, resting, &paused(true)).await?;
    let none = place.webhook(Events::Types(vec![EventType::JobFailed])).await?.id;
    let (first, second) = (message()?, event(EventType::MemberAdded)?);
    let foreign = event_of("u", EventType::MessageCreated, "c")?;
    let recorded = store.record(&[first.clone(), second.clone(), foreign]).await?;
    let found: Vec<_> = recorded.iter().map(|at| (at.event, at.webhook, at.paused)).collect();
    let expected = [
        (first.id, all, false),
        (first.id, some, false),
        (first.id, resting, true),
        (second.id, all, false),
        (second.id, some, false),
    ];
    ensure!(found == expected, "{found:?}");
    ensure!(store.deliveries(&tenant, none, None, 10).await?.is_empty());
    let delivery = store.delivery(&tenant, some, first.id).await?.context("a delivery")?;
    ensure!(delivery.body == first.body() && delivery.order_key.as_deref() == Some("c"), "{delivery:?}");
    let status = delivery.status;
    ensure!(
        (status.kind.as_str(), status.state, status.attempts)
            == ("message.created", DeliveryState::Waiting, 0)
    );
    ensure!((status.status, status.reason, status.attempted_at_ms) == (None, None, None));
    ensure!(status.recorded_at_ms > 1_700_000_000_000);
    ensure!(store.record(&[]).await?.is_empty());
    Ok(())
}

pub async fn an_event_recorded_again_is_not_delivered_twice(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let events = [message()?, message()?];
    let mut recording = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, events) = (place.store(), events.clone());
        recording.spawn(async move { store.record(&events).await });
    }
    while let Some(recorded) = recording.join_next().await {
        ensure!(recorded??.len() == 2);
    }
    ensure!(store.deliveries(&tenant, id, None, 10).await?.len() == 2);
    // Those that have ended are not returned any more.
    place.note(id, events[0].id, &delivered(), DAY).await?;
    let again: Vec<EventId> = store.record(&events).await?.iter().map(|at| at.event).collect();
    ensure!(again == [events[1].id], "{again:?}");
    Ok(())
}

pub async fn deliveries_are_listed_page_by_page(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let events = (0..5).map(|_| message()).collect::<Result<Vec<_>>>()?;
    store.record(&events).await?;
    place.note(id, events[1].id, &delivered(), DAY).await?;
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let (mut newest_first, mut before) = (Vec::new(), None);
    loop {
        let page = store.deliveries(&tenant, id, before, 2).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.position);
        newest_first.extend(page.iter().map(|delivery| delivery.event));
    }
    ensure!(newest_first.iter().rev().eq(&ids), "{newest_first:?}");
    let (mut waiting, mut after) = (Vec::new(), None);
    loop {
        let page = store.waiting(&tenant, id, after, 2).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.position);
        waiting.extend(page.iter().map(|delivery| delivery.event));
    }
    ensure!(waiting == [ids[0], ids[2], ids[3], ids[4]], "{waiting:?}");
    Ok(())
}

pub async fn a_delivery_that_has_ended_is_not_changed_by_a_late_attempt(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    let long = AttemptEnd { reason: Some("é".repeat(REASON_BYTES_MAX)), ..failed(DeliveryState::Waiting) };
    ensure!(place.note(id, event.id, &long, DAY).await? == Noted::Kept);
    let after_first = store.delivery(&tenant, id, event.id).await?.context("it is gone")?.status;
    ensure!((after_first.state, after_first.attempts) == (DeliveryState::Waiting, 1), "{after_first:?}");
    ensure!((after_first.status, after_first.answer.as_str()) == (Some(503), "busy"), "{after_first:?}");
    ensure!(after_first.reason.is_some_and(|reason| reason.len() == REASON_BYTES_MAX));
    ensure!(place.note(id, event.id, &delivered(), DAY).await? == Noted::Kept);
    let ended = store.delivery(&tenant, id, event.id).await?.context("it is gone")?.status;
    ensure!(
        (ended.state, ended.attempts, ended.status) == (DeliveryState::Delivered, 2, Some(204)),
        "{ended:?}"
    );
    ensure!(ended.reason.is_none() && ended.first_attempt_at_ms == after_first.first_attempt_at_ms);
    ensure!(ended.attempted_at_ms >= ended.first_attempt_at_ms);
    // A worker that was taken for dead comes late.
    let late = failed(DeliveryState::Failed);
    ensure!(place.note(id, event.id, &late, Duration::ZERO).await? == Noted::NotClaimed);
    ensure!(store.delivery(&tenant, id, event.id).await?.context("it is gone")?.status == ended);
    let webhook = store.webhook(&tenant, id).await?.context("it is gone")?;
    ensure!(webhook.failing_since_ms.is_none() && !webhook.paused, "{webhook:?}");
    Ok(())
}

pub async fn an_attempt_that_ends_after_its_claim_changes_nothing(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    let claim = async |lasts| -> Result<i64> {
        let due = store.claim(&all(lasts)).await?;
        ensure!(due.len() == 1, "{due:?}");
        // Claims end at different milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(due[0].claimed_until_ms)
    };
    let note = async |claimed_until_ms, end: AttemptEnd| {
        let end = AttemptEnd { claimed_until_ms, again_after: DAY, ..end };
        store.note_attempt(&tenant, id, event.id, &end, Duration::ZERO).await
    };
    let status = async || -> Result<_> {
        Ok(store.delivery(&tenant, id, event.id).await?.context("it is gone")?.status)
    };
    // A node is frozen for longer than its claim lasts, and another one has the delivery.
    let (frozen, awake) = (claim(Duration::ZERO).await?, claim(DAY).await?);
    let before = status().await?;
    ensure!(note(frozen, failed(DeliveryState::Waiting)).await? == Noted::NotClaimed);
    ensure!(note(frozen, delivered()).await? == Noted::NotClaimed && status().await? == before);
    ensure!(!store.webhook(&tenant, id).await?.context("it is gone")?.paused);
    ensure!(note(awake, delivered()).await? == Noted::Kept);
    // It goes on after the delivery was sent again, before and after that is claimed.
    ensure!(store.resend(&tenant, id, event.id).await?);
    let before = status().await?;
    for late in [frozen, awake] {
        ensure!(note(late, failed(DeliveryState::Failed)).await? == Noted::NotClaimed);
    }
    ensure!(status().await? == before, "it waits as it did");
    let third = claim(Duration::ZERO).await?;
    ensure!(note(awake, failed(DeliveryState::Failed)).await? == Noted::NotClaimed);
    // A claim that is over is as good as another one, as long as nobody else has the delivery.
    ensure!(note(third, delivered()).await? == Noted::Kept);
    ensure!(note(third, delivered()).await? == Noted::NotClaimed, "only once");
    Ok(())
}

pub async fn a_webhook_that_fails_for_long_is_paused_and_gets_later_what_it_missed(
    place: &Place,
) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let events = (0..3).map(|_| message()).collect::<Result<Vec<_>>>()?;
    store.record(&events).await?;
    let note = |event: EventId, end: AttemptEnd, pause_after| async move {
        place.note(id, event, &end, pause_after).await
    };
    let webhook = || async { store.webhook(&tenant, id).await?.context("it is gone") };
    ensure!(note(events[0].id, failed(DeliveryState::Waiting), DAY).await? == Noted::Kept);
    let since = webhook().await?.failing_since_ms.context("it is failing")?;
    ensure!(note(events[0].id, failed(DeliveryState::Waiting), DAY).await? == Noted::Kept);
    ensure!(webhook().await?.failing_since_ms == Some(since), "it has been failing since the first failure");
    ensure!(note(events[0].id, delivered(), DAY).await? == Noted::Kept);
    ensure!(webhook().await?.failing_since_ms.is_none(), "a success ends that");
    ensure!(note(events[1].id, failed(DeliveryState::Waiting), DAY).await? == Noted::Kept);
    ensure!(note(events[1].id, failed(DeliveryState::Failed), Duration::ZERO).await? == Noted::Paused);
    ensure!(webhook().await?.paused);
    ensure!(
        note(events[2].id, failed(DeliveryState::Waiting), Duration::ZERO).await? == Noted::Kept,
        "only once"
    );
    let missed = message()?;
    ensure!(store.record(std::slice::from_ref(&missed)).await?[0].paused);
    let resumed = store.change(&tenant, id, &paused(false)).await?.context("it is gone")?;
    ensure!(!resumed.paused && resumed.failing_since_ms.is_none(), "{resumed:?}");
    let waiting: Vec<_> = store.waiting(&tenant, id, None, 10).await?.iter().map(|at| at.event).collect();
    ensure!(waiting == [events[2].id, missed.id], "{waiting:?}");
    Ok(())
}

pub async fn a_webhook_that_is_resumed_tries_for_a_day_again(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let events = [message()?, message()?];
    store.record(&events).await?;
    for event in &events {
        place.note(id, event.id, &failed(DeliveryState::Waiting), DAY).await?;
    }
    let postgres = "WITH aged AS (
        UPDATE webhook_deliveries SET first_attempt_at = first_attempt_at - interval '25 hours' RETURNING 1
    ) SELECT count(*) FROM aged";
    let sqlite =
        "UPDATE webhook_deliveries SET first_attempt_at_ms = first_attempt_at_ms - 25 * 3600000 RETURNING 1";
    place.run(postgres, sqlite).await?;
    // While it is not paused, nothing begins anew.
    store.change(&tenant, id, &paused(false)).await?;
    let one = DeliveryClaim { limit: 1, ..all(DAY) };
    let under_way = store.claim(&one).await?;
    ensure!(
        under_way.len() == 1 && under_way[0].attempts == 1 && under_way[0].since_first > DAY,
        "{under_way:?}"
    );
    store.change(&tenant, id, &paused(true)).await?;
    store.change(&tenant, id, &paused(false)).await?;
    let due = store.claim(&all(DAY)).await?;
    ensure!(due.len() == 1 && due[0].event != under_way[0].event, "the other one is being sent: {due:?}");
    ensure!((due[0].attempts, due[0].since_first) == (0, Duration::ZERO), "{due:?}");
    Ok(())
}

pub async fn deliveries_with_one_order_key_take_turns(place: &Place) -> Result<()> {
    let (store, id) = (place.store(), place.webhook(Events::All).await?.id);
    let [first, other, second] = [("c", 0), ("d", 1), ("c", 2)]
        .map(|(key, _)| event_of("t", EventType::MessageCreated, key).expect("an event"));
    store.record(&[first.clone(), other.clone(), second.clone()]).await?;
    let next = |key: &'static str| {
        let store = place.store();
        async move { store.first_in_order(&"t".into(), id, key).await }
    };
    ensure!(next("c").await? == Some(first.id) && next("d").await? == Some(other.id));
    place.note(id, first.id, &failed(DeliveryState::Waiting), DAY).await?;
    ensure!(next("c").await? == Some(first.id), "the next waits for the one before");
    place.note(id, first.id, &failed(DeliveryState::Failed), DAY).await?;
    ensure!(next("c").await? == Some(second.id));
    place.note(id, second.id, &delivered(), DAY).await?;
    ensure!(next("c").await?.is_none() && next("d").await? == Some(other.id));
    Ok(())
}

pub async fn a_delivery_is_sent_again(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    place.note(id, event.id, &failed(DeliveryState::Failed), DAY).await?;
    ensure!(store.waiting(&tenant, id, None, 10).await?.is_empty());
    ensure!(store.resend(&tenant, id, event.id).await?);
    let again = store.delivery(&tenant, id, event.id).await?.context("it is gone")?;
    ensure!((again.status.state, again.status.attempts) == (DeliveryState::Waiting, 0), "{again:?}");
    ensure!(again.status.first_attempt_at_ms.is_none() && again.body == event.body(), "{again:?}");
    ensure!(!store.resend(&tenant, id, message()?.id).await?, "there is no such delivery");
    // One that waits for its next attempt is sent at once, and only once.
    let later = AttemptEnd { again_after: DAY, ..failed(DeliveryState::Waiting) };
    place.note(id, event.id, &later, DAY).await?;
    ensure!(claimed(place, &all(DAY)).await?.is_empty());
    ensure!(store.resend(&tenant, id, event.id).await?);
    let due = store.claim(&all(DAY)).await?;
    ensure!(due.len() == 1 && due[0].attempts == 1, "{due:?}");
    ensure!(!store.resend(&tenant, id, event.id).await?, "it is under way");
    ensure!(claimed(place, &all(DAY)).await?.is_empty());
    Ok(())
}

pub async fn trimming_keeps_the_newest(place: &Place) -> Result<()> {
    let (store, tenant, id) = (place.store(), "t".into(), place.webhook(Events::All).await?.id);
    let other = place.webhook(Events::All).await?.id;
    let events = (0..9).map(|_| message()).collect::<Result<Vec<_>>>()?;
    store.record(&events).await?;
    for event in &events[..5] {
        place.note(id, event.id, &delivered(), DAY).await?;
    }
    ensure!(store.trim(&tenant, id, Retention { ended: 5, waiting: 4 }).await? == Trimmed::default());
    // Two that wait fail, and then three too many have ended.
    let kept = Retention { ended: 4, waiting: 2 };
    let trimmed = store.trim(&tenant, id, kept).await?;
    ensure!(trimmed == Trimmed { failed: 2, removed: 3 }, "{trimmed:?}");
    ensure!(store.trim(&tenant, id, kept).await? == Trimmed::default());
    let left = store.deliveries(&tenant, id, None, 100).await?;
    let found: Vec<_> = left.iter().rev().map(|delivery| (delivery.event, delivery.state.as_str())).collect();
    let expected: Vec<_> = events[3..]
        .iter()
        .zip(["delivered", "delivered", "failed", "failed", "waiting", "waiting"])
        .map(|(event, state)| (event.id, state))
        .collect();
    ensure!(found == expected, "{found:?}");
    ensure!(left[2].reason.as_deref() == Some("too many deliveries waited"), "{:?}", left[2]);
    ensure!(store.deliveries(&tenant, other, None, 100).await?.len() == 9, "each webhook has its own");
    Ok(())
}

/// A claim of everything that is due.
fn all(lasts: Duration) -> DeliveryClaim {
    DeliveryClaim {
        limit: 100,
        of_each: 100,
        of_tenant: 100,
        except: Vec::new(),
        except_tenants: Vec::new(),
        failing_in_order: 100,
        lasts,
    }
}

/// Claims deliveries, and returns their webhooks and events.
async fn claimed(place: &Place, claim: &DeliveryClaim) -> Result<Vec<(WebhookId, EventId)>> {
    let mut found: Vec<_> =
        place.store().claim(claim).await?.iter().map(|due| (due.webhook, due.event)).collect();
    found.sort_unstable();
    Ok(found)
}

pub async fn a_claim_gives_what_is_due_once(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let webhook = place.webhook(Events::All).await?;
    let resting = place.webhook(Events::All).await?.id;
    store.change(&tenant, resting, &paused(true)).await?;
    let event = message()?;
    store.record(std::slice::from_ref(&event)).await?;
    let due = store.claim(&all(Duration::ZERO)).await?;
    ensure!(due.len() == 1, "the paused one gives none: {due:?}");
    ensure!((&due[0].tenant, due[0].webhook, due[0].event) == (&tenant, webhook.id, event.id));
    ensure!(due[0].endpoint == webhook.endpoint && due[0].body == event.body());
    ensure!(due[0].secrets == store.secrets(&tenant, webhook.id).await? && due[0].secrets.len() == 1);
    ensure!((due[0].attempts, due[0].since_first) == (0, Duration::ZERO));
    // That claim was over at once.
    let of_first = [(webhook.id, event.id)];
    ensure!(claimed(place, &all(DAY)).await? == of_first);
    ensure!(claimed(place, &all(DAY)).await?.is_empty(), "somebody has it");
    let again = |again_after| AttemptEnd { again_after, ..failed(DeliveryState::Waiting) };
    place.note(webhook.id, event.id, &again(DAY), DAY).await?;
    ensure!(claimed(place, &all(DAY)).await?.is_empty(), "its time has not come");
    place.note(webhook.id, event.id, &again(Duration::ZERO), DAY).await?;
    let due = store.claim(&all(DAY)).await?;
    ensure!(due.len() == 1 && due[0].attempts == 2, "{due:?}");
    place.note(webhook.id, event.id, &delivered(), DAY).await?;
    ensure!(claimed(place, &all(DAY)).await?.is_empty());
    store.resend(&tenant, webhook.id, event.id).await?;
    ensure!(claimed(place, &all(DAY)).await? == of_first);
    store.change(&tenant, resting, &paused(false)).await?;
    ensure!(claimed(place, &all(DAY)).await? == [(resting, event.id)], "what it missed");
    Ok(())
}

pub async fn a_claim_gives_no_more_of_a_webhook_than_it_may(place: &Place) -> Result<()> {
    let store = place.store();
    let (one, other) = (place.webhook(Events::All).await?.id, place.webhook(Events::All).await?.id);
    let events = [message()?, message()?, message()?, message()?];
    store.record(&events).await?;
    let count = |found: &[(WebhookId, EventId)], of| found.iter().filter(|(id, _)| *id == of).count();
    let some = DeliveryClaim { of_each: 2, ..all(DAY) };
    let found = claimed(place, &some).await?;
    ensure!((count(&found, one), count(&found, other)) == (2, 2), "{found:?}");
    let except = DeliveryClaim { except: vec![one], ..all(DAY) };
    let found = claimed(place, &except).await?;
    ensure!((count(&found, one), count(&found, other)) == (0, 2), "{found:?}");
    let few = DeliveryClaim { limit: 1, ..all(DAY) };
    ensure!(claimed(place, &few).await?.len() == 1 && claimed(place, &all(DAY)).await?.len() == 1);
    Ok(())
}

pub async fn tenants_take_turns_and_none_gets_more_than_it_may(place: &Place) -> Result<()> {
    let store = place.store();
    // The one that was added first has the older deliveries, and more webhooks and deliveries.
    let mut many = Vec::new();
    for _ in 0..3 {
        many.push(place.added(&new_webhook("many", Events::All)).await?.id);
    }
    let few = place.added(&new_webhook("few", Events::All)).await?.id;
    for (tenant, count) in [("many", 4), ("few", 2)] {
        let events = (0..count).map(|_| event_of(tenant, EventType::MessageCreated, "c"));
        store.record(&events.collect::<Result<Vec<_>>>()?).await?;
    }
    let count = |found: &[(WebhookId, EventId)]| found.iter().filter(|(id, _)| *id == few).count();
    let in_turn = DeliveryClaim { limit: 2, ..all(DAY) };
    let found = claimed(place, &in_turn).await?;
    ensure!((found.len(), count(&found)) == (2, 1), "one of each: {found:?}");
    let some = DeliveryClaim { of_tenant: 5, ..all(DAY) };
    let found = claimed(place, &some).await?;
    ensure!((found.len(), count(&found)) == (6, 1), "{found:?}");
    let except = DeliveryClaim { except_tenants: vec!["many".into()], ..all(DAY) };
    ensure!(claimed(place, &except).await?.is_empty(), "the other one has nothing left");
    let rest = claimed(place, &all(DAY)).await?;
    ensure!(rest.len() == 6 && rest.iter().all(|(id, _)| many.contains(id)), "{rest:?}");
    Ok(())
}

pub async fn a_delivery_that_cannot_be_read_holds_up_no_other(place: &Place) -> Result<()> {
    let (store, mut ids) = (place.store(), Vec::new());
    for tenant in ["url", "secret", "well"] {
        ids.push(place.added(&new_webhook(tenant, Events::All)).await?.id);
        store.record(&[event_of(tenant, EventType::MessageCreated, "c")?]).await?;
    }
    for (postgres, sqlite) in [
        (
            "WITH broken AS (UPDATE webhooks SET url = 'unix:/run/app.sock' WHERE tenant = 'url' RETURNING 1) SELECT count(*) FROM broken",
            "UPDATE webhooks SET url = 'unix:/run/app.sock' WHERE tenant = 'url' RETURNING 1",
        ),
        (
            "WITH broken AS (
                UPDATE webhook_secrets s SET secret = 'v2:key' FROM webhooks w WHERE w.id = s.webhook AND w.tenant = 'secret' RETURNING 1
            ) SELECT count(*) FROM broken",
            "UPDATE webhook_secrets SET secret = 'v2:key' WHERE webhook IN (SELECT id FROM webhooks WHERE tenant = 'secret') RETURNING 1",
        ),
    ] {
        ensure!(place.run(postgres, sqlite).await? == 1);
    }
    let found: Vec<WebhookId> = claimed(place, &all(DAY)).await?.iter().map(|(id, _)| *id).collect();
    ensure!(found == ids[2..], "{found:?}");
    ensure!(claimed(place, &all(DAY)).await?.is_empty(), "the others wait for the ends of their claims");
    Ok(())
}

pub async fn a_claim_keeps_the_order_where_it_is_wanted(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let id = place.webhook(Events::All).await?.id;
    store.change(&tenant, id, &WebhookChange { ordered: Some(true), ..WebhookChange::default() }).await?;
    let [first, other, second] =
        ["c", "d", "c"].map(|key| event_of("t", EventType::MessageCreated, key).expect("an event"));
    store.record(&[first.clone(), other.clone(), second.clone()]).await?;
    let mut both = [(id, first.id), (id, other.id)];
    both.sort_unstable();
    ensure!(claimed(place, &all(DAY)).await? == both, "the second of `c` waits");
    ensure!(claimed(place, &all(DAY)).await?.is_empty());
    let again = AttemptEnd { again_after: DAY, ..failed(DeliveryState::Waiting) };
    place.note(id, first.id, &again, DAY).await?;
    ensure!(claimed(place, &all(DAY)).await?.is_empty(), "it waits while the first is tried again");
    place.note(id, first.id, &delivered(), DAY).await?;
    ensure!(claimed(place, &all(DAY)).await? == [(id, second.id)]);
    Ok(())
}

pub async fn a_claim_looks_at_as_many_failing_webhooks_with_an_order_as_it_may(place: &Place) -> Result<()> {
    let (store, tenant) = (place.store(), "t".into());
    let ordered = WebhookChange { ordered: Some(true), ..WebhookChange::default() };
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(place.webhook(Events::All).await?.id);
    }
    for id in &ids[..3] {
        store.change(&tenant, *id, &ordered).await?;
    }
    let (failing, well, failing_without_order) = ([ids[0], ids[1]], ids[2], ids[3]);
    let [first, other, later] = ["c", "d", "e"]
        .map(|order_key| event_of("t", EventType::MessageCreated, order_key).expect("an event"));
    store.record(&[first.clone(), other.clone()]).await?;
    for id in [failing[0], failing[1], failing_without_order] {
        let again = AttemptEnd { again_after: DAY, ..failed(DeliveryState::Waiting) };
        place.note(id, first.id, &again, DAY).await?;
    }
    let claim = |failing_in_order| DeliveryClaim { failing_in_order, ..all(DAY) };
    let mut expected = [(well, first.id), (well, other.id), (failing_without_order, other.id)];
    expected.sort_unstable();
    ensure!(claimed(place, &claim(0)).await? == expected);
    let except = DeliveryClaim { except: failing.to_vec(), ..claim(2) };
    ensure!(claimed(place, &except).await?.is_empty());
    let mut both = failing.map(|id| (id, other.id));
    both.sort_unstable();
    let one = claimed(place, &DeliveryClaim { limit: 1, ..claim(2) }).await?;
    ensure!(one.len() == 1 && both.contains(&one[0]), "{one:?}");
    place.note(one[0].0, other.id, &delivered(), DAY).await?;
    // One of the two has recovered.
    store.record(std::slice::from_ref(&later)).await?;
    let found = claimed(place, &claim(0)).await?;
    let mut expected = [one[0].0, well, failing_without_order].map(|id| (id, later.id));
    expected.sort_unstable();
    ensure!(found == expected, "{found:?}");
    let found = claimed(place, &claim(1)).await?;
    let still = both.iter().find(|(id, _)| *id != one[0].0).context("the other one")?.0;
    let mut expected = [(still, other.id), (still, later.id)];
    expected.sort_unstable();
    ensure!(found == expected, "{found:?}");
    Ok(())
}

use std::sync::Arc;
use std::time::Duration;

use starling_rate::Rate;
use starling_session_store::{SessionStore, Verdict};

use crate::world::{World, beat};

/// So slow that nothing comes back while a case runs.
const HOUR: Duration = Duration::from_secs(3_600);

fn rate(count: u32, period: Duration) -> Rate {
    Rate::new(count, period).expect("a rate")
}

pub async fn two_nodes_share_one_allowance_exactly(world: &World<'_>) {
    let twenty = rate(20, HOUR);
    let mut takes = tokio::task::JoinSet::new();
    for i in 0..60 {
        let store = if i % 2 == 0 { world.a.clone() } else { world.b.clone() };
        takes.spawn(async move {
            store.take(&"acme".into(), &"alice".into(), twenty).await.expect("the store answers")
        });
    }
    let verdicts = takes.join_all().await;
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Allowed).count(), 20);
    let one_comes_back_every_ms: u64 = 3_600_000 / 20;
    let mut places: Vec<_> = verdicts.into_iter().filter_map(away).collect();
    places.sort_unstable();
    for (place, retry_after_ms) in (1..).zip(places) {
        // The line is one period long.
        let due_ms = one_comes_back_every_ms * u64::min(place, 20);
        assert!((due_ms - 30_000..=due_ms).contains(&retry_after_ms), "place {place}: {retry_after_ms}");
    }
}

pub async fn who_comes_back_when_told_to_finds_a_place(world: &World<'_>) {
    let rate = rate(10, Duration::from_secs(2));
    let mut takes = tokio::task::JoinSet::new();
    for i in 0..18 {
        let store = if i % 2 == 0 { world.a.clone() } else { world.b.clone() };
        takes.spawn(async move {
            let mut refused = 0;
            loop {
                let verdict =
                    store.take(&"acme".into(), &"alice".into(), rate).await.expect("the store answers");
                let Some(retry_after_ms) = away(verdict) else { return refused };
                refused += 1;
                tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
            }
        });
    }
    // Whoever comes late, on a slow machine, and takes the place of one who was refused, is not refused itself.
    let refused = takes.join_all().await;
    assert!(refused.iter().sum::<u32>() <= 8, "{refused:?}");
}

fn away(verdict: Verdict) -> Option<u64> {
    match verdict {
        Verdict::Denied { retry_after_ms } => Some(retry_after_ms),
        Verdict::Allowed => None,
    }
}

pub async fn an_allowance_comes_back_evenly(world: &World<'_>) {
    let rate = rate(2, Duration::from_millis(400));
    let mut allowed = 0;
    let begun = std::time::Instant::now();
    while allowed < 6 {
        match world.a.take(&"acme".into(), &"alice".into(), rate).await.expect("the store answers") {
            Verdict::Allowed => allowed += 1,
            Verdict::Denied { retry_after_ms } => {
                assert!((1..=200).contains(&retry_after_ms), "{retry_after_ms}");
                tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
            }
        }
    }
    // Two at once, then four more, one each 200 ms; the servers' clocks are whole milliseconds at worst.
    assert!(begun.elapsed() >= Duration::from_millis(790), "{:?}", begun.elapsed());
}

pub async fn users_and_tenants_have_their_own(world: &World<'_>) {
    let one = rate(1, HOUR);
    for (tenant, user) in [("acme", "alice"), ("acme", "bob"), ("other", "alice"), ("a:b", "c"), ("a", "b:c")]
    {
        assert_eq!(
            world.a.take(&tenant.into(), &user.into(), one).await.expect("the store answers"),
            Verdict::Allowed,
            "{tenant} {user}"
        );
        let second = world.b.take(&tenant.into(), &user.into(), one).await.expect("the store answers");
        assert!(matches!(second, Verdict::Denied { .. }), "{tenant} {user}");
    }
}

pub async fn connections_of_a_tenant_stay_within_the_limit_over_all_nodes(world: &World<'_>) {
    const MAX: u64 = 20;
    let set = async |store: &Arc<dyn SessionStore>, node: &str, count: u64, max: Option<u64>| {
        store.set_connections(node, &"acme".into(), count, max).await.expect("the store answers")
    };
    let (_a, b) = (world.live(&world.a, "a").await, world.live(&world.b, "b").await);
    // Both nodes take one place after the other, at the same time.
    let climb = async |store: &Arc<dyn SessionStore>, node: &str| {
        let mut count = 0;
        while set(store, node, count + 1, Some(MAX)).await {
            count += 1;
        }
        count
    };
    let (of_a, of_b) = tokio::join!(climb(&world.a, "a"), climb(&world.b, "b"));
    assert_eq!(of_a + of_b, MAX, "{of_a} and {of_b}");
    assert!(!set(&world.a, "a", of_a + 1, Some(MAX)).await);
    assert!(world.b.set_connections("b", &"other".into(), 1, Some(1)).await.expect("the store answers"));
    // What one gives back the other may have.
    assert!(set(&world.a, "a", 0, None).await);
    assert!(set(&world.b, "b", MAX, Some(MAX)).await);
    assert!(!set(&world.a, "a", 1, Some(MAX)).await);
    // What is told without asking counts as well: sockets that are there are not cut.
    assert!(set(&world.a, "a", 5, None).await);
    assert!(!set(&world.b, "b", MAX - 4, Some(MAX)).await);
    assert!(set(&world.b, "b", MAX - 5, Some(MAX)).await);
    // A node that is gone holds nothing.
    drop(b);
    world.b.leave("b").await.expect("the store answers");
    beat(&world.a, "a").await;
    assert!(set(&world.a, "a", MAX, Some(MAX)).await);
}

use crate::world::{World, beat, record};

pub async fn a_first_beat_is_told_that_the_lease_was_lost(world: &World<'_>) {
    let first = beat(&world.a, "n1").await;
    assert!(first.lost);
    assert_eq!(first.living, [record("n1")]);
    assert!(!beat(&world.a, "n1").await.lost);
    let other = beat(&world.b, "n2").await;
    assert!(other.lost);
    assert_eq!(other.living, [record("n1"), record("n2")]);
    let mut changed = record("n1");
    changed.draining = true;
    changed.connections = Some(4);
    assert!(!world.a.beat(&changed).await.expect("the store answers").lost);
    assert_eq!(world.b.nodes().await.expect("the store answers"), [changed, record("n2")]);
}

pub async fn a_node_that_stops_beating_is_dead_a_lease_later(world: &World<'_>) {
    let _other = world.live(&world.b, "n2").await;
    beat(&world.a, "n1").await;
    assert_eq!(world.b.nodes().await.expect("the store answers").len(), 2);
    world.wait_for_death(&world.b, "n1").await;
    assert_eq!(beat(&world.b, "n2").await.living, [record("n2")]);
    let back = beat(&world.a, "n1").await;
    assert!(back.lost);
    assert_eq!(back.living.len(), 2);
}

pub async fn a_node_that_leaves_is_gone_at_once(world: &World<'_>) {
    beat(&world.a, "n1").await;
    beat(&world.b, "n2").await;
    world.a.leave("n1").await.expect("the store answers");
    assert_eq!(world.b.nodes().await.expect("the store answers"), [record("n2")]);
    world.a.leave("n1").await.expect("the store answers");
    world.a.leave("nobody").await.expect("the store answers");
    assert!(beat(&world.a, "n1").await.lost);
}

pub async fn a_wiped_store_says_that_leases_were_lost(world: &World<'_>) {
    beat(&world.a, "n1").await;
    beat(&world.b, "n2").await;
    world.wipe().await;
    assert_eq!(world.a.nodes().await.expect("the store answers"), []);
    assert!(beat(&world.a, "n1").await.lost);
    assert!(!beat(&world.a, "n1").await.lost);
    assert!(beat(&world.b, "n2").await.lost);
}

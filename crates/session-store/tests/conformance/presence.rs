use starling_model::ConversationId;
use starling_session_store::{ConversationKey, PresenceChange, PresenceEntry};

use crate::world::{World, beat};

fn key(tenant: &str, conversation: &str) -> ConversationKey {
    ConversationKey { tenant: tenant.into(), conversation: conversation.into(), id: ConversationId::new(7) }
}

fn change(conversation: &ConversationKey, user: &str, devices: u32) -> PresenceChange {
    PresenceChange { conversation: conversation.clone(), user: user.into(), devices }
}

fn entry(user: &str, node: &str, devices: u32) -> PresenceEntry {
    PresenceEntry { user: user.into(), node: node.into(), devices }
}

pub async fn devices_on_several_nodes_are_told_apart(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n/2").await;
    let (plans, foreign, colon) = (key("acme", "plans"), key("other", "plans"), key("acme:plans", "x"));
    let of_a = [change(&plans, "alice", 2), change(&plans, "bob", 1), change(&foreign, "eve", 1)];
    world.a.set_presence("n1", &of_a).await.expect("the store answers");
    world
        .b
        .set_presence("n/2", &[change(&plans, "alice", 1), change(&colon, "message", 3)])
        .await
        .expect("the store answers");
    let asked = [foreign.clone(), plans.clone(), key("acme", "empty"), colon, key("acme", "plans:x")];
    let expected = [
        vec![entry("eve", "n1", 1)],
        vec![entry("alice", "n/2", 1), entry("alice", "n1", 2), entry("bob", "n1", 1)],
        vec![],
        vec![entry("message", "n/2", 3)],
        vec![],
    ];
    for store in [&world.a, &world.b] {
        assert_eq!(store.presence(&asked).await.expect("the store answers"), expected);
    }
    world.a.keep_presence(&asked).await.expect("the store answers");
    let later = [change(&plans, "alice", 1), change(&plans, "bob", 0), change(&plans, "nobody", 0)];
    world.a.set_presence("n1", &later).await.expect("the store answers");
    let expected = [vec![entry("alice", "n/2", 1), entry("alice", "n1", 1)]];
    assert_eq!(world.b.presence(std::slice::from_ref(&plans)).await.expect("the store answers"), expected);
    world.a.set_presence("n1", &[change(&plans, "alice", 0)]).await.expect("the store answers");
    world.b.set_presence("n/2", &[change(&plans, "alice", 0)]).await.expect("the store answers");
    assert_eq!(world.b.presence(&[plans]).await.expect("the store answers"), [vec![]]);
    assert_eq!(world.b.presence(&[]).await.expect("the store answers"), Vec::<Vec<PresenceEntry>>::new());
    world.b.set_presence("n/2", &[]).await.expect("the store answers");
}

pub async fn a_dead_node_takes_its_presence_with_it(world: &World<'_>) {
    let _b = world.live(&world.b, "n2").await;
    let plans = key("acme", "plans");
    beat(&world.a, "n1").await;
    world.a.set_presence("n1", &[change(&plans, "alice", 1)]).await.expect("the store answers");
    world.b.set_presence("n2", &[change(&plans, "bob", 1)]).await.expect("the store answers");
    assert_eq!(world.b.presence(std::slice::from_ref(&plans)).await.expect("the store answers")[0].len(), 2);
    world.wait_for_death(&world.b, "n1").await;
    let expected = [vec![entry("bob", "n2", 1)]];
    assert_eq!(world.b.presence(std::slice::from_ref(&plans)).await.expect("the store answers"), expected);
    // It was only held up: it beats, is told, and writes again.
    assert!(beat(&world.a, "n1").await.lost);
    world.a.set_presence("n1", &[change(&plans, "alice", 1)]).await.expect("the store answers");
    assert_eq!(world.b.presence(std::slice::from_ref(&plans)).await.expect("the store answers")[0].len(), 2);
    world.a.leave("n1").await.expect("the store answers");
    world.wait_for_death(&world.b, "n1").await;
    assert_eq!(world.b.presence(&[plans]).await.expect("the store answers"), expected);
}

pub async fn a_wiped_store_is_filled_again(world: &World<'_>) {
    let plans = key("acme", "plans");
    let _a = world.live(&world.a, "n1").await;
    world.a.set_presence("n1", &[change(&plans, "alice", 1)]).await.expect("the store answers");
    world.wipe().await;
    assert_eq!(world.a.presence(std::slice::from_ref(&plans)).await.expect("the store answers"), [vec![]]);
    world.a.set_presence("n1", &[change(&plans, "alice", 1)]).await.expect("the store answers");
    beat(&world.a, "n1").await;
    assert_eq!(world.a.presence(&[plans]).await.expect("the store answers"), [vec![entry("alice", "n1", 1)]]);
}

pub async fn thousands_of_entries_at_once(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let keys: Vec<_> = (0..2_500).map(|i| key("acme", &format!("c{i}"))).collect();
    let mut changes: Vec<_> = keys.iter().map(|key| change(key, "alice", 1)).collect();
    changes.extend((0..1_200).map(|i| change(&keys[0], &format!("u{i}"), 1)));
    world.a.set_presence("n1", &changes).await.expect("the store answers");
    let present = world.b.presence(&keys).await.expect("the store answers");
    assert_eq!(present.len(), 2_500);
    assert_eq!(present[0].len(), 1_201);
    assert!(present[1..].iter().all(|entries| *entries == [entry("alice", "n1", 1)]));
}

pub async fn a_conversation_that_is_made_again_begins_with_nobody(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let old = key("acme", "plans");
    let new = ConversationKey { id: ConversationId::new(8), ..old.clone() };
    world.a.set_presence("n1", &[change(&old, "alice", 1)]).await.expect("the store answers");
    assert_eq!(world.b.presence(std::slice::from_ref(&new)).await.expect("the store answers"), [vec![]]);
    world.a.set_presence("n1", &[change(&new, "alice", 1)]).await.expect("the store answers");
    // What is written late of the old one touches nothing in the new one.
    world.a.set_presence("n1", &[change(&old, "alice", 0)]).await.expect("the store answers");
    let expected = [vec![], vec![entry("alice", "n1", 1)]];
    assert_eq!(world.b.presence(&[old, new]).await.expect("the store answers"), expected);
}

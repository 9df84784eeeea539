//! Who is there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::wait::until_true;

use crate::place::{Place, everywhere};
use crate::talk::{SOON, Talk, assert_time};

/// How long a user counts as online after the connection drops.
const GRACE: Duration = Duration::from_secs(10);

async fn present(client: &mut Client, user: &str) -> Value {
    let list = client.ask("presence", json!({"conversation": "c"})).await;
    let users = list["users"].as_array().unwrap();
    users.iter().find(|entry| entry["user"] == user).cloned().unwrap_or_default()
}

#[test]
fn who_joins_is_online_and_who_leaves_is_offline_at_once() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.join("c").await;
        let absent = present(&mut ada, "bob").await;
        assert_eq!((&absent["online"], &absent["devices"]), (&json!(false), &json!(0)));
        bob.join("c").await;
        let came = ada.event("presence", |event| event["user"] == "bob").await;
        assert_eq!(came, json!({"ev": "presence", "conversation": "c", "user": "bob", "online": true}));
        assert_devices(&mut bob, "ada", 1).await;
        for client in [&mut ada, &mut bob] {
            let list = client.ask("presence", json!({"conversation": "c"})).await;
            let expected = json!({"users": [
                {"user": "ada", "online": true, "devices": 1}, {"user": "bob", "online": true, "devices": 1},
            ]});
            assert_eq!(list, expected);
        }
        let begun = Instant::now();
        bob.ask("leave", json!({"conversation": "c"})).await;
        let went = ada.event("presence", |event| event["online"] == false).await;
        assert!(begun.elapsed() < GRACE / 2);
        assert_eq!((&went["user"], &went["conversation"]), (&json!("bob"), &json!("c")));
        assert_time(&went["last_seen"]);
        assert_last_seen(&mut ada, &went).await;
    });
}

#[test]
fn a_user_is_there_until_the_last_device_has_left() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut bobs_phone = place.connect(0, "bob").await;
        bobs_phone.join("c").await;
        let mut bobs_watch = place.connect(1, "bob").await;
        bobs_watch.join("c").await;
        assert_devices(&mut ada, "bob", 3).await;
        bob.ask("leave", json!({"conversation": "c"})).await;
        bobs_phone.ask("leave", json!({"conversation": "c"})).await;
        assert_devices(&mut ada, "bob", 1).await;
        assert_eq!(ada.rest("presence").await, [] as [Value; 0], "nobody came or went");
        bobs_watch.ask("leave", json!({"conversation": "c"})).await;
        ada.event("presence", |event| event["user"] == "bob" && event["online"] == false).await;
    });
}

#[test]
fn a_dropped_socket_counts_as_there_for_10_seconds_more() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let mut cy = place.connect(1, "cy").await;
        cy.ask("create", json!({"conversation": "other"})).await;
        let dropped = Instant::now();
        bob.cut();
        assert_eq!(present(&mut ada, "bob").await["online"], true);
        let went = ada.event("presence", |event| event["user"] == "bob").await;
        let after = dropped.elapsed();
        assert_eq!(went["online"], false);
        assert!(
            (GRACE - Duration::from_millis(200)..GRACE + Duration::from_secs(5)).contains(&after),
            "{after:?}"
        );
        assert_time(&went["last_seen"]);
        assert_last_seen(&mut ada, &went).await;
    });
}

#[test]
fn a_resume_within_the_grace_shows_nothing() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        let mut resume = bob.resumption();
        resume["cursors"] = json!({"c": 0});
        bob.cut();
        // On the other node first, then back on the first: a node that detaches late must not announce it.
        let bob = place.resume(0, "bob", resume.clone()).await;
        assert_eq!(bob.welcome()["resumed"], true);
        bob.cut();
        let mut bob = place.resume(1, "bob", resume).await;
        let quiet = ada.drain_events(GRACE + Duration::from_secs(4)).await.unwrap();
        let shown: Vec<&Value> = quiet.iter().filter(|event| event["ev"] == "presence").collect();
        assert_eq!(shown, [] as [&Value; 0]);
        assert_devices(&mut ada, "bob", 1).await;
        bob.ask("leave", json!({"conversation": "c"})).await;
        ada.event("presence", |event| event["user"] == "bob" && event["online"] == false).await;
    });
}

#[test]
fn a_session_that_was_attached_elsewhere_is_one_device() {
    everywhere(async |place| {
        let (mut ada, bob) = place.joined("c").await;
        for node in [0, 1, 1, 0] {
            // The older connection stays open and silent, so that its node must act by itself.
            let mut resume = bob.resumption();
            resume["cursors"] = json!({"c": 0});
            let newer = place.resume(node, "bob", resume).await;
            assert_eq!(newer.welcome()["resumed"], true);
            assert_devices(&mut ada, "bob", 1).await;
        }
        assert_eq!(ada.rest("presence").await, [] as [Value; 0]);
    });
}

#[test]
fn a_session_without_a_join_is_not_online_in_the_conversation() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.join("c").await;
        bob.ask("ping", json!({})).await;
        let bobs = present(&mut ada, "bob").await;
        assert_eq!((&bobs["online"], &bobs["devices"]), (&json!(false), &json!(0)));
    });
}

#[test]
fn presence_is_for_members_who_have_not_joined_too() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.join("c").await;
        assert_devices(&mut bob, "ada", 1).await;
        assert_eq!(present(&mut bob, "ada").await, json!({"user": "ada", "online": true, "devices": 1}));
    });
}

/// Checks that Bob's last-seen time is that of the event, once his node has written it.
async fn assert_last_seen(client: &mut Client, went: &Value) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let bob = present(client, "bob").await;
        assert_eq!((&bob["online"], &bob["devices"]), (&json!(false), &json!(0)));
        if bob["last_seen"] == went["last_seen"] {
            return;
        }
        assert!(Instant::now() < deadline, "{bob} {went}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a user's devices, once the data of the other nodes has arrived.
async fn assert_devices(client: &mut Client, user: &str, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = present(client, user).await;
        if found["devices"] == count {
            return assert_eq!(found["online"], count > 0);
        }
        assert!(Instant::now() < deadline, "not {count} devices: {found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_person_is_there_as_long_as_in_a_conversation_however_many_sockets_dropped() {
    everywhere(async |place| {
        let (_ada, bob) = place.members("c").await;
        // More sessions than are read at once. Testing this once per store is enough.
        let count = if place.encoding == Encoding::Json { 205 } else { 5 };
        for _ in 0..count {
            place.connect(1, "bob").await.cut();
        }
        devices(place, "one is left", 1).await;
        let dropped = Instant::now();
        bob.cut();
        devices(place, "none is left", 0).await;
        assert!(dropped.elapsed() >= GRACE, "he went {:?} after the drop", dropped.elapsed());
    });
}

/// Waits until a user's presence over all conversations counts this many sessions.
async fn devices(place: &Place, what: &str, count: u64) {
    let token = place.token("ada");
    until_true(SOON, what, async || {
        let shown: Value = place.http(0, &token, "GET", "/v1/users/bob/presence").await.json()?;
        anyhow::ensure!(shown["online"] == (shown["devices"] != 0), "{shown}");
        Ok(shown["devices"] == count)
    })
    .await
    .unwrap();
}

//! `read` and `typing`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::everywhere;
use crate::talk::Talk;

#[test]
fn a_read_mark_is_told_kept_and_never_falls() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        for n in 0..5 {
            ada.say("c", &format!("text {n}")).await;
        }
        assert_eq!(bob.ask("read", json!({"conversation": "c", "seq": 3})).await, json!({}));
        let expected = json!({"ev": "read", "conversation": "c", "user": "bob", "seq": 3});
        assert_eq!(ada.event("read", |_| true).await, expected);
        for seq in [2, 0, 3] {
            assert_eq!(bob.ask("read", json!({"conversation": "c", "seq": seq})).await, json!({}));
        }
        bob.ask("read", json!({"conversation": "c", "seq": 4})).await;
        assert_eq!(ada.event("read", |_| true).await["seq"], 4, "nothing came between");
        for node in [0, 1] {
            let mut device = place.connect(node, "ada").await;
            assert_eq!(device.join("c").await["reads"], json!({"bob": 4}));
        }
    });
}

#[test]
fn a_lower_mark_from_another_device_does_not_fall_either() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut bobs_phone = place.connect(0, "bob").await;
        for n in 0..5 {
            ada.say("c", &format!("text {n}")).await;
        }
        bob.ask("read", json!({"conversation": "c", "seq": 5})).await;
        bobs_phone.ask("read", json!({"conversation": "c", "seq": 2})).await;
        assert_eq!(ada.event("read", |_| true).await["seq"], 5);
        assert_eq!(ada.rest("read").await, [] as [Value; 0]);
        assert_eq!(bobs_phone.join("c").await["reads"], json!({"bob": 5}));
    });
}

#[test]
fn nobody_has_read_beyond_the_newest_message() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        bob.ask("read", json!({"conversation": "c", "seq": 7})).await;
        ada.say("c", "one").await;
        ada.say("c", "two").await;
        bob.ask("read", json!({"conversation": "c", "seq": 1_000_000})).await;
        assert_eq!(ada.event("read", |_| true).await["seq"], 2);
        assert_eq!(ada.join("c").await["reads"], json!({"bob": 2}));
    });
}

#[test]
fn typing_is_told_to_the_others_and_not_to_the_one_who_types() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut adas_phone = place.connect(1, "ada").await;
        adas_phone.join("c").await;
        for typing in [true, false] {
            assert_eq!(ada.ask("typing", json!({"conversation": "c", "typing": typing})).await, json!({}));
            let expected = json!({"ev": "typing", "conversation": "c", "user": "ada", "typing": typing});
            assert_eq!(bob.event("typing", |_| true).await, expected);
        }
        for client in [&mut ada, &mut adas_phone] {
            assert_eq!(client.rest("typing").await, [] as [Value; 0]);
        }
    });
}

#[test]
fn typing_ends_by_itself_6_seconds_after_the_last_word_of_it() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let typing = json!({"conversation": "c", "typing": true});
        ada.ask("typing", typing.clone()).await;
        bob.event("typing", |event| event["typing"] == true).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let last = Instant::now();
        ada.ask("typing", typing).await;
        let ended = bob.event("typing", |event| event["typing"] == false).await;
        assert_eq!(ended, json!({"ev": "typing", "conversation": "c", "user": "ada", "typing": false}));
        let after = last.elapsed();
        assert!((Duration::from_millis(5_900)..Duration::from_secs(10)).contains(&after), "{after:?}");
        assert_eq!(bob.rest("typing").await.iter().filter(|event| event["typing"] == false).count(), 0);
    });
}

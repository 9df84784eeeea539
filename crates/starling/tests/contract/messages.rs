//! `send` and `history`: one order, no repeats.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::place::everywhere;
use crate::talk::{Talk, assert_time, keys};

#[test]
fn a_message_reaches_the_other_node_and_the_sender_itself() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let metadata = json!({"n": [1, -1, 0.5, null, true, 18446744073709551615_u64], "é": {"": "😀"}});
        let fields = json!({"conversation": "c", "key": "k", "content": "Hi \"Bob\" \\ \u{7}\té😀", "metadata": metadata});
        let sent = ada.ask("send", fields.clone()).await;
        assert_eq!(keys(&sent), ["at", "duplicate", "id", "seq"]);
        assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
        assert_time(&sent["at"]);
        let expected = json!({
            "ev": "message", "conversation": "c", "seq": 1, "id": sent["id"], "sender": "ada", "role": "user",
            "content": fields["content"], "metadata": metadata, "at": sent["at"],
        });
        assert_eq!(bob.event("message", |_| true).await, expected);
        assert_eq!(ada.event("message", |_| true).await, expected);
        let page = bob.ask("history", json!({"conversation": "c"})).await;
        let mut entry = expected;
        entry.as_object_mut().unwrap().remove("ev");
        let mut found = page["messages"][0].clone();
        // An entry may or may not repeat the conversation's name.
        found["conversation"] = json!("c");
        assert_eq!((found, &page["more"]), (entry, &json!(false)));
    });
}

#[test]
fn a_message_without_metadata_and_an_empty_one_are_shown_as_they_are() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        ada.ask("send", json!({"conversation": "c", "key": "1", "content": ""})).await;
        ada.ask("send", json!({"conversation": "c", "key": "2", "content": " ", "metadata": null})).await;
        ada.ask("send", json!({"conversation": "c", "key": "3", "content": "x", "metadata": {}})).await;
        let events = [
            bob.event("message", |_| true).await,
            bob.event("message", |_| true).await,
            bob.event("message", |_| true).await,
        ];
        assert_eq!(events.each_ref().map(|event| event["content"].as_str().unwrap()), ["", " ", "x"]);
        assert_eq!(events.each_ref().map(|event| event.get("metadata")), [None, None, Some(&json!({}))]);
    });
}

#[test]
fn sending_needs_membership_and_no_join() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        bob.join("c").await;
        assert_eq!(ada.say("c", "unjoined").await, 1);
        assert_eq!(bob.numbers(1).await, [1]);
        assert_eq!(ada.rest("message").await, [] as [Value; 0]);
    });
}

#[test]
fn writers_on_both_nodes_make_one_order_without_a_hole() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let mut waiting = Vec::new();
        for n in 0..40 {
            for (sender, client) in [("ada", &mut ada), ("bob", &mut bob)] {
                let fields =
                    json!({"conversation": "c", "key": format!("k{n}"), "content": format!("{sender} {n}")});
                waiting.push((sender, client.submit("send", fields).await.unwrap()));
            }
        }
        let mut numbers = BTreeSet::new();
        for (sender, id) in waiting {
            let client = if sender == "ada" { &mut ada } else { &mut bob };
            numbers.insert(client.reply(id).await.unwrap()["seq"].as_u64().unwrap());
        }
        assert_eq!(numbers, (1..=80).collect());
        let mut seen = Vec::new();
        for client in [&mut ada, &mut bob] {
            let mut messages = Vec::new();
            for _ in 0..80 {
                messages.push(client.event("message", |_| true).await);
            }
            let numbers: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
            assert_eq!(numbers, (1..=80).collect::<Vec<_>>());
            seen.push(messages);
        }
        assert_eq!(seen[0], seen[1]);
        // The messages of each sender arrive in the order in which they were sent.
        for sender in ["ada", "bob"] {
            let own = seen[0].iter().filter(|message| message["sender"] == sender);
            let own: Vec<&str> = own.map(|message| message["content"].as_str().unwrap()).collect();
            assert_eq!(own, (0..40).map(|n| format!("{sender} {n}")).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_key_is_of_1_to_64_characters_per_sender_and_conversation() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.ask("create", json!({"conversation": "d"})).await;
        let longest = "😀".repeat(64);
        let fields =
            |conversation: &str| json!({"conversation": conversation, "key": longest, "content": "x"});
        for (client, conversation) in [(&mut ada, "c"), (&mut bob, "c")] {
            assert_eq!(client.ask("send", fields(conversation)).await["duplicate"], false);
        }
        assert_eq!(ada.ask("send", fields("d")).await["duplicate"], false);
        assert_eq!(ada.ask("send", fields("d")).await["duplicate"], true);
        let too_long = json!({"conversation": "c", "key": "é".repeat(65), "content": "x"});
        assert_eq!(ada.refused("send", too_long).await, "bad_request");
    });
}

#[test]
fn a_retry_gets_the_first_answer_again_and_is_no_second_message() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        let send = |content: &str| json!({"conversation": "c", "key": "k", "content": content});
        let first = ada.ask("send", send("first")).await;
        ada.say("c", "between").await;
        let mut adas_phone = place.connect(1, "ada").await;
        for client in [&mut ada, &mut adas_phone] {
            let again = client.ask("send", send("another text")).await;
            assert_eq!(
                (&again["seq"], &again["id"], &again["at"]),
                (&first["seq"], &first["id"], &first["at"])
            );
            assert_eq!(again["duplicate"], true);
        }
        ada.say("c", "last").await;
        assert_eq!(bob.numbers(3).await, [1, 2, 3]);
        let page = bob.ask("history", json!({"conversation": "c"})).await;
        let contents: Vec<&Value> =
            page["messages"].as_array().unwrap().iter().map(|m| &m["content"]).collect();
        assert_eq!(contents, ["first", "between", "last"]);
    });
}

#[test]
fn the_same_key_through_two_nodes_at_the_same_time_is_one_message() {
    everywhere(async |place| {
        let (mut here, mut bob) = place.joined("c").await;
        let mut there = place.connect(1, "ada").await;
        let mut ids = Vec::new();
        for n in 0..40 {
            let fields = json!({"conversation": "c", "key": format!("k{n}"), "content": "x"});
            let one = here.submit("send", fields.clone()).await.unwrap();
            ids.push((one, there.submit("send", fields).await.unwrap()));
        }
        let mut numbers = BTreeSet::new();
        for (one, two) in ids {
            let (one, two) = (here.reply(one).await.unwrap(), there.reply(two).await.unwrap());
            assert_eq!((&one["seq"], &one["id"], &one["at"]), (&two["seq"], &two["id"], &two["at"]));
            assert_ne!(one["duplicate"], two["duplicate"]);
            numbers.insert(one["seq"].as_u64().unwrap());
        }
        assert_eq!(numbers, (1..=40).collect());
        assert_eq!(bob.numbers(40).await, (1..=40).collect::<Vec<_>>());
    });
}

#[test]
fn the_same_key_twice_in_one_breath_is_one_message() {
    everywhere(async |place| {
        let (mut ada, _bob) = place.joined("c").await;
        let fields = json!({"conversation": "c", "key": "k", "content": "x"});
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(ada.submit("send", fields.clone()).await.unwrap());
        }
        for (n, id) in ids.into_iter().enumerate() {
            let sent = ada.reply(id).await.unwrap();
            assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(n > 0)));
        }
    });
}

#[test]
fn replies_come_in_the_order_of_the_commands() {
    everywhere(async |place| {
        let (mut ada, _bob) = place.members("c").await;
        let mut expected = Vec::new();
        for n in 0..100 {
            let fields = json!({"conversation": "c", "key": format!("k{n}"), "content": "x"});
            expected.push((ada.submit("send", fields).await.unwrap(), "send"));
            if n % 10 == 9 {
                let history = json!({"conversation": "c", "limit": 1});
                expected.push((ada.submit("history", history).await.unwrap(), "history"));
                let bad = json!({"conversation": "c", "key": "", "content": "x"});
                expected.push((ada.submit("send", bad).await.unwrap(), "error"));
                let read = json!({"conversation": "c", "seq": n});
                expected.push((ada.submit("read", read).await.unwrap(), "read"));
            }
            if n % 7 == 0 {
                expected.push((ada.submit("ping", json!({})).await.unwrap(), "ping"));
            }
        }
        let mut head = 0;
        let (mut pings, mut ordered) = (BTreeSet::new(), Vec::new());
        for _ in 0..expected.len() {
            let reply = reply(&mut ada).await;
            let id = reply["id"].as_u64().unwrap();
            let (_, kind) = expected.iter().find(|(expected, _)| *expected == id).unwrap();
            match *kind {
                "send" => {
                    head += 1;
                    assert_eq!(reply["ok"]["seq"], head);
                }
                // A request after the send sees the message.
                "history" => assert_eq!(reply["ok"]["messages"][0]["seq"], head, "{reply}"),
                "error" => assert_eq!(reply["error"]["code"], "bad_request"),
                "ping" => assert!(pings.insert(id)),
                _ => assert_eq!(reply["ok"], json!({})),
            }
            if *kind != "ping" {
                ordered.push(id);
            }
        }
        let wanted: Vec<u64> =
            expected.iter().filter(|(_, kind)| *kind != "ping").map(|(id, _)| *id).collect();
        assert_eq!((ordered, pings.len()), (wanted, 15));
    });
}

/// Returns the next reply and skips events.
async fn reply(client: &mut starling_testkit::client::Client) -> Value {
    loop {
        let frame = client.frame().await;
        if frame.get("id").is_some() {
            return frame;
        }
    }
}

#[test]
fn history_is_paged_both_ways() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        assert_eq!(
            bob.ask("history", json!({"conversation": "c"})).await,
            json!({"messages": [], "more": false})
        );
        for n in 0..60 {
            let fields = json!({"conversation": "c", "key": format!("k{n}"), "content": format!("text {n}")});
            ada.submit("send", fields).await.unwrap();
        }
        ada.ask("ping", json!({})).await;
        ada.ask("history", json!({"conversation": "c", "limit": 1})).await;
        let mut page = async |fields: Value| {
            let mut all = json!({"conversation": "c"});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let page = bob.ask("history", all).await;
            let numbers: Vec<u64> =
                page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
            (numbers, page["more"].as_bool().unwrap())
        };
        let range = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
        assert_eq!(page(json!({})).await, (range(11, 60), true), "the newest 50");
        assert_eq!(page(json!({"limit": 200})).await, (range(1, 60), false));
        assert_eq!(page(json!({"limit": 1})).await, (range(60, 60), true));
        assert_eq!(page(json!({"before": 11, "limit": 4})).await, (range(7, 10), true));
        assert_eq!(page(json!({"before": 5, "limit": 4})).await, (range(1, 4), false));
        assert_eq!(page(json!({"before": 1})).await, (vec![], false));
        assert_eq!(page(json!({"before": 1000, "limit": 2})).await, (range(59, 60), true));
        assert_eq!(page(json!({"after": 0, "limit": 3})).await, (range(1, 3), true));
        assert_eq!(page(json!({"after": 57, "limit": 3})).await, (range(58, 60), false));
        assert_eq!(page(json!({"after": 60})).await, (vec![], false));
        assert_eq!(page(json!({"after": 1000})).await, (vec![], false));
    });
}

#[test]
fn a_page_of_history_ends_at_1_mib() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let large = "x".repeat(64 * 1024);
        for _ in 0..20 {
            ada.say("c", &large).await;
        }
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let after = seen.last().copied().unwrap_or(0);
            let page = bob.ask("history", json!({"conversation": "c", "after": after, "limit": 200})).await;
            let messages = page["messages"].as_array().unwrap();
            assert!(!messages.is_empty() && messages.len() <= 16, "{} messages", messages.len());
            seen.extend(messages.iter().map(|message| message["seq"].as_u64().unwrap()));
            pages += 1;
            if page["more"] == false {
                break;
            }
        }
        assert_eq!((seen, pages), ((1..=20).collect(), 2));
        // A page read backwards contains the messages nearest to its start.
        let page = bob.ask("history", json!({"conversation": "c", "limit": 200})).await;
        let messages = page["messages"].as_array().unwrap();
        assert_eq!((&messages.last().unwrap()["seq"], &page["more"]), (&json!(20), &json!(true)));
    });
}

//! `subscribe`, `unsubscribe` and `publish`.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;

use crate::place::{Arrangement, Place, everywhere};
use crate::talk::{Talk, keys};

/// Connects Ada to one node and Bob to the other; Bob has subscribed to the topic `t`.
async fn subscribed(place: &Place) -> (Client, Client) {
    let (ada, mut bob) = (place.connect(0, "ada").await, place.connect(1, "bob").await);
    bob.ask("subscribe", json!({"topic": "t"})).await;
    (ada, bob)
}

async fn publish(client: &mut Client, data: Value) -> Value {
    client.ask("publish", json!({"topic": "t", "data": data})).await
}

async fn offsets(client: &mut Client, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    for _ in 0..count {
        offsets.push(client.event("publication", |_| true).await["offset"].as_u64().unwrap());
    }
    offsets
}

#[test]
fn a_publication_reaches_subscribers_on_every_node() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        let position = ada.ask("subscribe", json!({"topic": "t"})).await;
        assert_eq!(keys(&position), ["epoch", "offset", "recovered", "replayed"]);
        assert_eq!((&position["recovered"], &position["replayed"]), (&json!(false), &json!(0)));
        let values = [
            json!(null),
            json!(0.5),
            json!("text"),
            json!([]),
            json!({"deep": [{"n": 18446744073709551615_u64}]}),
        ];
        for (n, data) in values.into_iter().enumerate() {
            let published = publish(&mut ada, data.clone()).await;
            let offset = position["offset"].as_u64().unwrap() + 1 + n as u64;
            assert_eq!(published, json!({"epoch": position["epoch"], "offset": offset}));
            let expected =
                json!({"ev": "publication", "topic": "t", "offset": offset, "data": data, "sender": "ada"});
            for client in [&mut ada, &mut bob] {
                assert_eq!(client.event("publication", |_| true).await, expected);
            }
        }
    });
}

#[test]
fn publishing_needs_no_subscription_and_brings_nothing_back() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        publish(&mut ada, json!(1)).await;
        offsets(&mut bob, 1).await;
        assert_eq!(ada.rest("publication").await, [] as [Value; 0]);
    });
}

#[test]
fn two_subscribers_see_one_order_of_two_publishers() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        let first = ada.ask("subscribe", json!({"topic": "t"})).await["offset"].as_u64().unwrap() + 1;
        for n in 0..50 {
            for client in [&mut ada, &mut bob] {
                client.submit("publish", json!({"topic": "t", "data": n})).await.unwrap();
            }
        }
        let mut seen = Vec::new();
        for client in [&mut ada, &mut bob] {
            let mut events = Vec::new();
            for _ in 0..100 {
                events.push(client.event("publication", |_| true).await);
            }
            let offsets: Vec<u64> = events.iter().map(|event| event["offset"].as_u64().unwrap()).collect();
            assert_eq!(offsets, (first..first + 100).collect::<Vec<_>>());
            seen.push(events);
        }
        assert_eq!(seen[0], seen[1]);
        for sender in ["ada", "bob"] {
            let own: Vec<&Value> = seen[0]
                .iter()
                .filter(|event| event["sender"] == sender)
                .map(|event| &event["data"])
                .collect();
            assert_eq!(own, (0..50).collect::<Vec<_>>(), "{sender}'s own order");
        }
    });
}

#[test]
fn whoever_unsubscribed_gets_nothing_more() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        publish(&mut ada, json!("heard")).await;
        offsets(&mut bob, 1).await;
        assert_eq!(bob.ask("unsubscribe", json!({"topic": "t"})).await, json!({}));
        publish(&mut ada, json!("unheard")).await;
        bob.ask("subscribe", json!({"topic": "t"})).await;
        publish(&mut ada, json!("again")).await;
        assert_eq!(bob.event("publication", |_| true).await["data"], "again");
        bob.ask("unsubscribe", json!({"topic": "t"})).await;
        assert_eq!(bob.ask("unsubscribe", json!({"topic": "t"})).await, json!({}), "twice is harmless");
    });
}

#[test]
fn what_came_since_a_position_is_replayed_after_the_reply() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        let seen = publish(&mut ada, json!(1)).await;
        offsets(&mut bob, 1).await;
        bob.ask("unsubscribe", json!({"topic": "t"})).await;
        for n in 2..=4 {
            publish(&mut ada, json!(n)).await;
        }
        let id = bob.submit("subscribe", json!({"topic": "t", "since": seen})).await.unwrap();
        let reply = bob.frame().await;
        assert_eq!(reply["id"], id, "{reply}");
        assert_eq!((&reply["ok"]["recovered"], &reply["ok"]["replayed"]), (&json!(true), &json!(3)));
        let offset = seen["offset"].as_u64().unwrap();
        assert_eq!(reply["ok"]["offset"], offset + 3);
        publish(&mut ada, json!(5)).await;
        for n in 1..=4 {
            let event = bob.frame().await;
            assert_eq!((&event["offset"], &event["data"]), (&json!(offset + n), &json!(n + 1)));
            assert_eq!((&event["topic"], &event["sender"]), (&json!("t"), &json!("ada")));
        }
    });
}

#[tokio::test]
async fn what_a_socket_may_not_have_waiting_is_not_replayed_but_said_to_be_missed() {
    for arrangement in [Arrangement::Alone, Arrangement::Cluster] {
        let nodes = arrangement.nodes_with(&[("STARLING_QUEUE_BYTES", "8192")]).await;
        let (first, other) = (&nodes[0], nodes.last().unwrap());
        let connect = async |node: &Node, user| {
            Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await.unwrap()
        };
        let (mut ada, mut bob) = (connect(first, "ada").await, connect(other, "bob").await);
        let seen = publish(&mut ada, json!("seen")).await;
        for _ in 0..5 {
            publish(&mut ada, json!("x".repeat(2_000))).await;
        }
        let last = ada.ask("subscribe", json!({"topic": "t"})).await["offset"].as_u64().unwrap();
        let answer = bob.ask("subscribe", json!({"topic": "t", "since": seen})).await;
        assert_eq!((&answer["recovered"], &answer["replayed"]), (&json!(false), &json!(0)), "{answer}");
        assert_eq!(answer["offset"], last);
        publish(&mut ada, json!("live")).await;
        assert_eq!(bob.event("publication", |_| true).await["data"], "live");
        // The publications that are kept are replayed.
        bob.ask("unsubscribe", json!({"topic": "t"})).await;
        let since = json!({"epoch": seen["epoch"], "offset": last});
        let answer = bob.ask("subscribe", json!({"topic": "t", "since": since})).await;
        assert_eq!((&answer["recovered"], &answer["replayed"]), (&json!(true), &json!(1)), "{answer}");
    }
}

#[test]
fn a_position_that_is_current_is_recovered_with_nothing_to_replay() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        let seen = publish(&mut ada, json!(1)).await;
        offsets(&mut bob, 1).await;
        for client in [&mut ada, &mut bob] {
            let reply = client.ask("subscribe", json!({"topic": "t", "since": seen})).await;
            assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(0)));
        }
    });
}

#[test]
fn a_position_of_another_epoch_is_not_recovered_and_nothing_is_replayed() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        for n in 1..=3 {
            publish(&mut ada, json!(n)).await;
        }
        offsets(&mut bob, 3).await;
        let since = json!({"epoch": "another", "offset": 1});
        for client in [&mut ada, &mut bob] {
            let reply = client.ask("subscribe", json!({"topic": "t", "since": since})).await;
            assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(false), &json!(0)));
        }
        publish(&mut ada, json!("live")).await;
        assert_eq!(bob.event("publication", |_| true).await["data"], "live");
        assert_eq!(ada.event("publication", |_| true).await["data"], "live");
    });
}

#[test]
fn a_position_before_the_kept_history_is_not_recovered() {
    everywhere(async |place| {
        let (mut ada, mut bob) = subscribed(place).await;
        let seen = publish(&mut ada, json!(0)).await;
        bob.ask("unsubscribe", json!({"topic": "t"})).await;
        for n in 1..=101 {
            ada.submit("publish", json!({"topic": "t", "data": n})).await.unwrap();
        }
        let newest = publish(&mut ada, json!("newest")).await;
        let reply = bob.ask("subscribe", json!({"topic": "t", "since": seen})).await;
        assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(false), &json!(0)));
        assert_eq!(reply["offset"], newest["offset"]);
        // A hundred publications are kept.
        let kept = json!({"epoch": seen["epoch"], "offset": newest["offset"].as_u64().unwrap() - 100});
        let reply = ada.ask("subscribe", json!({"topic": "t", "since": kept})).await;
        assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(100)));
    });
}

#[test]
fn the_scope_says_which_topics_one_may_use() {
    everywhere(async |place| {
        let scope = "subscribe:news subscribe:team.* publish:team.a";
        let token = place.claims("ada").scope(scope).sign(place.node(0).secret());
        let mut ada = place.connect_with(0, &token).await;
        for (op, topic, allowed) in [
            ("subscribe", "news", true),
            ("subscribe", "news2", false),
            ("subscribe", "team.a", true),
            ("subscribe", "team.", true),
            ("subscribe", "team", false),
            ("subscribe", "other", false),
            ("publish", "team.a", true),
            ("publish", "team.ab", false),
            ("publish", "news", false),
        ] {
            let fields = json!({"topic": topic, "data": 1});
            if allowed {
                ada.ask(op, fields).await;
            } else {
                assert_eq!(ada.refused(op, fields).await, "forbidden", "{op} {topic}");
            }
        }
        let token = place.claims("bob").without("scope").sign(place.node(0).secret());
        let mut bob = place.connect_with(1, &token).await;
        assert_eq!(bob.refused("subscribe", json!({"topic": "news"})).await, "forbidden");
        assert_eq!(bob.refused("publish", json!({"topic": "team.a", "data": 1})).await, "forbidden");
    });
}

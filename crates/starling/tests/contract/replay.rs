//! `join` with a cursor: reply, then replay, then live.

use serde_json::{Value, json};
use starling_testkit::client::Client;

use crate::place::{REPLAY_LIMIT, everywhere};
use crate::talk::Talk;

#[test]
fn the_reply_comes_first_then_the_replay_then_live() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        for n in 0..10 {
            ada.say("c", &format!("text {n}")).await;
        }
        let id = bob.submit("join", json!({"conversation": "c", "after": 3})).await.unwrap();
        let reply = bob.frame().await;
        assert_eq!(reply["id"], id, "{reply}");
        assert_eq!((&reply["ok"]["head"], &reply["ok"]["replayed"]), (&json!(10), &json!(7)));
        assert_eq!(reply["ok"]["truncated"], false);
        ada.say("c", "live").await;
        for seq in 4..=11 {
            let message = bob.frame().await;
            assert_eq!((&message["ev"], &message["seq"]), (&json!("message"), &json!(seq)), "{message}");
            assert_eq!((&message["sender"], &message["role"]), (&json!("ada"), &json!("user")));
        }
    });
}

#[test]
fn a_join_amid_a_stream_of_messages_misses_none_and_repeats_none() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let mut ids = Vec::new();
        for n in 0..200 {
            let fields = json!({"conversation": "c", "key": format!("k{n}"), "content": "x"});
            ids.push(ada.submit("send", fields).await.unwrap());
            if n == 100 {
                // A hundred messages are in flight, most of them not committed yet.
                bob.submit("join", json!({"conversation": "c", "after": 0})).await.unwrap();
            }
        }
        for id in ids {
            ada.reply(id).await.unwrap();
        }
        let reply = bob.frame().await;
        let (head, replayed) =
            (reply["ok"]["head"].as_u64().unwrap(), reply["ok"]["replayed"].as_u64().unwrap());
        assert_eq!(replayed, head.min(REPLAY_LIMIT), "{reply}");
        assert_eq!(reply["ok"]["truncated"], head > REPLAY_LIMIT);
        let first = head - replayed + 1;
        let expected: Vec<u64> = (first..=200).collect();
        assert_eq!(bob.numbers(expected.len()).await, expected);
    });
}

#[test]
fn beyond_the_limit_only_the_newest_are_replayed_and_history_has_the_rest() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        let head = REPLAY_LIMIT + 10;
        for n in 0..head {
            ada.say("c", &format!("text {n}")).await;
        }
        let joined = bob.ask("join", json!({"conversation": "c", "after": 5})).await;
        assert_eq!((&joined["head"], &joined["replayed"]), (&json!(head), &json!(REPLAY_LIMIT)));
        assert_eq!(joined["truncated"], true);
        let first = head - REPLAY_LIMIT + 1;
        assert_eq!(bob.numbers(REPLAY_LIMIT as usize).await, (first..=head).collect::<Vec<_>>());
        let page = bob.ask("history", json!({"conversation": "c", "after": 5, "limit": first - 6})).await;
        let rest: Vec<u64> =
            page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
        assert_eq!(rest, (6..first).collect::<Vec<_>>());
        // Exactly the limit does not exceed it.
        let joined = bob.ask("join", json!({"conversation": "c", "after": first - 1})).await;
        assert_eq!((&joined["replayed"], &joined["truncated"]), (&json!(REPLAY_LIMIT), &json!(false)));
        assert_eq!(bob.numbers(REPLAY_LIMIT as usize).await, (first..=head).collect::<Vec<_>>());
    });
}

#[test]
fn a_cursor_at_the_head_replays_nothing_and_one_beyond_it_everything() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.say("c", "one").await;
        for (after, replayed) in [(1, 0), (2, 1), (1_000_000, 1)] {
            let joined = bob.ask("join", json!({"conversation": "c", "after": after})).await;
            assert_eq!((&joined["head"], &joined["replayed"]), (&json!(1), &json!(replayed)), "{after}");
            // Its messages no longer exist: the log was another one, or the database was restored.
            assert_eq!(
                (&joined["reset"], &joined["truncated"]),
                (&json!(replayed == 1), &json!(false)),
                "{after}"
            );
            assert_eq!(bob.numbers(replayed).await, [1][..replayed]);
        }
        ada.say("c", "two").await;
        assert_eq!(bob.numbers(1).await, [2]);
    });
}

#[test]
fn joining_again_answers_afresh_and_live_messages_still_come_once() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.joined("c").await;
        for n in 0..5 {
            ada.say("c", &format!("text {n}")).await;
        }
        assert_eq!(bob.numbers(5).await, [1, 2, 3, 4, 5]);
        let joined = bob.ask("join", json!({"conversation": "c", "after": 2})).await;
        assert_eq!((&joined["head"], &joined["replayed"]), (&json!(5), &json!(3)));
        assert_eq!(bob.numbers(3).await, [3, 4, 5]);
        assert_eq!(bob.join("c").await["replayed"], 0);
        ada.say("c", "live").await;
        ada.say("c", "last").await;
        assert_eq!(bob.numbers(2).await, [6, 7]);
        assert_eq!(bob.rest("message").await, [] as [Value; 0]);
        // One leave is enough after three joins.
        bob.ask("leave", json!({"conversation": "c"})).await;
        ada.say("c", "unheard").await;
        ada.event("message", |message| message["seq"] == 8).await;
        assert_eq!(bob.rest("message").await, [] as [Value; 0]);
    });
}

#[test]
fn each_conversation_has_its_own_place() {
    everywhere(async |place| {
        let (mut ada, mut bob) = place.members("c").await;
        ada.ask("create", json!({"conversation": "d", "members": ["bob"]})).await;
        bob.event("member", |event| event["conversation"] == "d").await;
        for conversation in ["c", "d", "d"] {
            ada.say(conversation, "x").await;
        }
        bob.ask("join", json!({"conversation": "c", "after": 0})).await;
        bob.ask("join", json!({"conversation": "d", "after": 1})).await;
        ada.say("c", "y").await;
        assert_eq!(numbers_of(&mut bob, "c", 2).await, [1, 2]);
        assert_eq!(numbers_of(&mut bob, "d", 1).await, [2]);
    });
}

async fn numbers_of(client: &mut Client, conversation: &str, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let message = client.event("message", |message| message["conversation"] == conversation).await;
        numbers.push(message["seq"].as_u64().unwrap());
    }
    numbers
}

//! The clients of the kit against a scripted node: they say what happened, also when it is not what should have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod scripted;

use std::time::Duration;

use scripted::{Fault, Log, node};
use serde_json::{Value, json};
use starling_testkit::client::{self, Client, Encoding, Failure, Message, RecordingClient, Upgrade, Verdict};

const LIMIT: Duration = Duration::from_secs(10);

/// What the nodes hold, as the verdict wants it.
fn truth(log: &Log) -> client::Log {
    let mut truth = client::Log::default();
    for message in log.messages() {
        let text = |name: &str| message[name].as_str().unwrap();
        truth.insert("c", message["seq"].as_u64().unwrap(), text("id"), text("sender"), text("content"));
    }
    truth
}

async fn send(user: &mut RecordingClient, count: u64) {
    for n in 0..count {
        user.send("c", &format!("key-{}-{n}", rand::random::<u64>()), "hello").await.unwrap();
    }
}

#[tokio::test]
async fn commands_and_events_pass_in_both_encodings() {
    let log = Log::new(100);
    let url = node(&log).await;
    for encoding in Encoding::ALL {
        let mut client = Client::connect(&url, "good", encoding).await.unwrap();
        assert_eq!(client.welcome()["session"], "s");
        let value = json!({"n": [1, -1, 0.5, null, true], "s": "é"});
        assert_eq!(client.command("echo", json!({ "value": value })).await.unwrap(), value);
        client.command("join", json!({"conversation": "c"})).await.unwrap();
        let key = encoding.subprotocol();
        let sent =
            client.command("send", json!({"conversation": "c", "key": key, "content": "hi"})).await.unwrap();
        let event = client.wait_for_event("message").await.unwrap();
        assert_eq!((&event["seq"], &event["content"]), (&sent["seq"], &json!("hi")));
    }
}

#[tokio::test]
async fn replies_may_be_awaited_in_any_order_and_events_wait_meanwhile() {
    let log = Log::new(100);
    let url = node(&log).await;
    let mut client = Client::connect(&url, "good", Encoding::Json).await.unwrap();
    client.command("join", json!({"conversation": "c"})).await.unwrap();
    client.submit("send", json!({"key": "1", "content": "one"})).await.unwrap();
    let echo = client.submit("echo", json!({"value": 1})).await.unwrap();
    let last = client.submit("echo", json!({"value": 2})).await.unwrap();
    assert_eq!(client.reply(last).await.unwrap(), 2);
    assert_eq!(client.reply(echo).await.unwrap(), 1);
    assert_eq!(client.next_event(LIMIT).await.unwrap()["seq"], 1);
}

#[tokio::test]
async fn a_refusal_a_close_and_silence_are_told_apart() {
    let log = Log::new(100);
    let url = node(&log).await;
    let mut client = Client::connect(&url, "good", Encoding::Json).await.unwrap();
    let Err(Failure::Refused(reply)) = client.command("fly", Value::Null).await else {
        panic!("not refused")
    };
    assert_eq!((reply.code.as_str(), reply.retry_after_ms), ("rate_limited", Some(7)));
    client.set_patience(Duration::from_millis(50));
    let silence = client.command("silence", Value::Null).await.unwrap_err();
    assert!(matches!(silence, Failure::Other(_)) && silence.is_unknown(), "{silence}");

    let mut client = Upgrade::to(&url).open().await.unwrap();
    assert_eq!(client.hello(json!({"token": "bad"})).await.unwrap_err().code(), Some("unauthorized"));
    assert_eq!(client.closed(LIMIT).await.unwrap().code, Some(4401));
    assert_eq!(client.command("echo", Value::Null).await.unwrap_err().close_code(), Some(4401));
}

#[tokio::test]
async fn raw_frames_go_out_as_they_are() {
    let log = Log::new(100);
    let url = node(&log).await;
    let mut client = Upgrade::to(&url).offer("").open().await.unwrap();
    client.send_raw(Message::text(r#"{"id": 5, "op": "echo", "value": 9}"#)).await.unwrap();
    let Message::Text(text) = client.next_raw(LIMIT).await.unwrap() else { panic!("not a text") };
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"id": 5, "ok": 9}));
    client.send_raw(Message::text("garbage")).await.unwrap();
    assert_eq!(client.closed(LIMIT).await.unwrap().code, None, "cut without a close frame");
}

#[tokio::test]
async fn a_port_without_a_node_is_a_failure_and_not_a_hang() {
    let port = starling_testkit::free_port().unwrap();
    let url = format!("ws://{}/v1/ws", port.address());
    let failure = Client::connect(&url, "good", Encoding::Json).await.unwrap_err();
    assert!(matches!(failure, Failure::Other(_)), "{failure}");
}

/// A user who sees five messages of a node with this fault.
async fn verdict_under(fault: Fault) -> Verdict {
    let log = Log::new(100);
    let url = node(&log).await;
    let mut user = RecordingClient::connect(&url, "good", Encoding::Json).await.unwrap();
    user.join("c").await.unwrap();
    log.set(fault);
    send(&mut user, 5).await;
    user.listen_until("c", 5, LIMIT).await.unwrap();
    user.record().verdict(&truth(&log))
}

#[tokio::test]
async fn a_sound_node_has_a_clean_verdict_and_each_fault_shows() {
    let clean = verdict_under(Fault::None).await;
    assert!(clean.is_clean() && clean.messages == 5 && clean.acknowledged == 5, "{clean}");
    let lost = verdict_under(Fault::Loses).await;
    assert_eq!((lost.lost, lost.doubled, lost.out_of_order), (1, 0, 1), "{lost}");
    let doubled = verdict_under(Fault::Doubles).await;
    assert_eq!((doubled.lost, doubled.doubled, doubled.out_of_order), (0, 1, 0), "{doubled}");
    let swapped = verdict_under(Fault::Swaps).await;
    assert_eq!((swapped.lost, swapped.doubled, swapped.out_of_order), (0, 0, 2), "{swapped}");
}

#[tokio::test]
async fn a_user_goes_on_at_another_node_where_it_was() {
    let log = Log::new(100);
    let urls = [node(&log).await, node(&log).await];
    let mut ada = RecordingClient::connect(&urls[0], "good", Encoding::Json).await.unwrap();
    let mut bob = RecordingClient::connect(&urls[1], "good", Encoding::MessagePack).await.unwrap();
    ada.join("c").await.unwrap();
    bob.join("c").await.unwrap();
    send(&mut ada, 3).await;
    bob.listen_until("c", 3, LIMIT).await.unwrap();
    bob.cut();
    assert!(!bob.is_connected());
    send(&mut ada, 4).await;
    let resumed = bob.resume(&urls[0]).await.unwrap();
    assert!(resumed.resumed && resumed.replayed == 4, "{resumed:?}");
    send(&mut ada, 2).await;
    bob.listen_until("c", 9, LIMIT).await.unwrap();
    let verdict = bob.record().verdict(&truth(&log));
    assert!(verdict.is_clean() && verdict.messages == 9, "{verdict}");
}

#[tokio::test]
async fn what_a_replay_leaves_out_is_fetched_from_the_history() {
    let log = Log::new(3);
    let url = node(&log).await;
    let mut ada = RecordingClient::connect(&url, "good", Encoding::Json).await.unwrap();
    let mut bob = RecordingClient::connect(&url, "good", Encoding::Json).await.unwrap();
    ada.join("c").await.unwrap();
    bob.join("c").await.unwrap();
    bob.cut();
    send(&mut ada, 10).await;
    bob.resume(&url).await.unwrap();
    bob.listen_until("c", 10, LIMIT).await.unwrap();
    let verdict = bob.record().verdict(&truth(&log));
    assert!(verdict.is_clean() && verdict.messages == 10, "{verdict}");
}

#[tokio::test]
async fn a_session_that_was_not_taken_up_is_joined_afresh_by_its_cursors() {
    let log = Log::new(100);
    let url = node(&log).await;
    let mut user = RecordingClient::connect(&url, "good", Encoding::Json).await.unwrap();
    user.join("c").await.unwrap();
    send(&mut user, 2).await;
    user.listen_until("c", 2, LIMIT).await.unwrap();
    log.set(Fault::Forgets);
    user.cut();
    let mut other = RecordingClient::connect(&url, "good", Encoding::Json).await.unwrap();
    send(&mut other, 3).await;
    let resumed = user.resume_somewhere(std::slice::from_ref(&url), LIMIT).await.unwrap();
    assert!(!resumed.resumed && resumed.replayed == 3, "{resumed:?}");
    user.listen_until("c", 5, LIMIT).await.unwrap();
    assert!(user.record().verdict(&truth(&log)).is_clean());
}

#[tokio::test]
async fn a_send_whose_answer_was_lost_is_sent_again_by_its_key() {
    let log = Log::new(100);
    let urls = [node(&log).await, node(&log).await];
    let mut user = RecordingClient::connect(&urls[0], "good", Encoding::Json).await.unwrap();
    user.join("c").await.unwrap();
    log.set(Fault::SwallowsReply);
    let sent = user.send_surely(&urls, "c", "key", "hello", LIMIT).await.unwrap();
    assert!(sent.duplicate && sent.seq == 1, "{sent:?}");
    user.listen_until("c", 1, LIMIT).await.unwrap();
    let verdict = user.record().verdict(&truth(&log));
    assert!(verdict.is_clean() && verdict.messages == 1 && log.messages().len() == 1, "{verdict}");
}

//! Backends that fail, and what they cost others.

use std::time::{Duration, Instant};

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::Client;

use crate::place::{SOON, Talk, everywhere, message};

/// The time of a hook whose backend does not answer.
const SHORT_MS: u64 = 200;

#[test]
fn a_backend_that_does_not_decide_refuses_or_allows_as_its_hook_says() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        let app = place.application(0);
        for answer in [
            Answer::Status(500),
            Answer::Status(204),
            Answer::Json(json!({"ok": true})),
            Answer::Json(json!({"allow": true, "content": 7})),
            Answer::Json(json!({"allow": true, "content": "a".repeat((64 << 10) + 1)})),
            Answer::Json(json!({"allow": true, "metadata": {"a": "a".repeat(16 << 10)}})),
            Answer::Silence,
        ] {
            let backend = Backend::answering(answer.clone()).await.unwrap();
            let timeout_ms = if matches!(answer, Answer::Silence) { SHORT_MS } else { 5000 };
            let fields = |on_failure| json!({"url": backend.url("/"), "timeout_ms": timeout_ms, "on_failure": on_failure});
            app.put("/v1/hooks/send", &fields("refuse")).await;
            let error = ada.refusal("send", message("c", "hi")).await;
            assert_eq!(error.code, "unavailable", "{answer:?}: {error:?}");
            assert!(error.retry_after_ms.is_some_and(|after| after > 0), "{error:?}");
            app.put("/v1/hooks/send", &fields("allow")).await;
            ada.ask("send", message("c", "hi")).await;
            assert_eq!(backend.requests().len(), 2, "{answer:?}");
        }
        let history = ada.ask("history", json!({"conversation": "c"})).await;
        let contents: Vec<_> =
            history["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
        assert_eq!(contents, [&json!("hi"); 7], "as they were sent");
    });
}

#[test]
fn a_backend_that_is_down_is_not_asked_for_a_while() {
    everywhere(async |place| {
        let backend = Backend::answering(Answer::Status(503)).await.unwrap();
        let mut ada = place.connect(0, "ada").await;
        place.set("publish", &backend).await;
        // Five failures in a row, and then none within the first second.
        for _ in 0..20 {
            assert_eq!(ada.refusal("publish", json!({"topic": "t", "data": 1})).await.code, "unavailable");
        }
        assert!(backend.requests().len() < 20, "{}", backend.requests().len());
        // It is asked again by itself.
        let asked = backend.requests().len();
        starling_testkit::wait::until_true(SOON, "the next question", async || {
            ada.refusal("publish", json!({"topic": "t", "data": 1})).await;
            Ok(backend.requests().len() > asked)
        })
        .await
        .unwrap();
    });
}

#[test]
fn the_silent_backend_of_one_tenant_does_not_delay_another() {
    everywhere(async |place| {
        const MESSAGES: u32 = 50;
        let mut other = place.connect_stranger("zoe").await;
        other.ask("create", json!({"conversation": "c"})).await;
        let idle = spent(&mut other, MESSAGES).await;

        let backend = Backend::answering(Answer::Silence).await.unwrap();
        let mut slow = Vec::new();
        for number in 0..100 {
            let mut client = place.connect(0, &format!("user-{number}")).await;
            client.ask("create", json!({"conversation": format!("c{number}")})).await;
            slow.push(client);
        }
        place.set("send", &backend).await;
        for (number, client) in slow.iter_mut().enumerate() {
            client.submit("send", message(&format!("c{number}"), "hi")).await.unwrap();
        }
        // All places of the tenant are taken, and no more than these.
        backend.wait_for(SOON, 64).await.unwrap();
        let beside = spent(&mut other, MESSAGES).await;
        assert!(beside < idle * 20 + Duration::from_secs(1), "idle {idle:?}, beside {beside:?}");
        assert!(beside < Duration::from_millis(5000 * u64::from(MESSAGES) / 2), "{beside:?}");
        eprintln!("{MESSAGES} messages of another tenant: idle {idle:?}, beside a silent backend {beside:?}");
    });
}

/// The time that so many messages take, one after the other.
async fn spent(client: &mut Client, messages: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..messages {
        client.ask("send", message("c", "hi")).await;
    }
    began.elapsed()
}

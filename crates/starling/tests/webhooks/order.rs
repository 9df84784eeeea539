//! The order of commands that backends are asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};

use crate::place::{Talk, everywhere, message};

#[test]
fn commands_of_a_connection_keep_their_order_however_long_each_answer_takes() {
    everywhere(async |place| {
        // The first answers take longest. Without an order, later messages would overtake.
        let count = Arc::new(AtomicU64::new(0));
        let backend = Backend::start(move |_| {
            let before = count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(50_u64.saturating_sub(before * 5))).await;
                Answer::allow()
            }
        })
        .await
        .unwrap();
        place.set("send", &backend).await;
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        ada.ask("join", json!({"conversation": "c"})).await;
        let mut ids = Vec::new();
        for number in 0..20 {
            ids.push(ada.submit("send", message("c", &number.to_string())).await.unwrap());
        }
        let last = ada.submit("history", json!({"conversation": "c"})).await.unwrap();
        for (number, id) in (1..).zip(ids) {
            assert_eq!(ada.reply(id).await.unwrap()["seq"], number);
        }
        let history = ada.reply(last).await.unwrap();
        assert_eq!(history["messages"].as_array().unwrap().len(), 20, "it waits for its turn");
        for number in 0..20 {
            assert_eq!(ada.hears().await.0, number.to_string());
        }
    });
}

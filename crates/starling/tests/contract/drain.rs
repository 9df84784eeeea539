//! Taking leave: SIGTERM.

use std::time::{Duration, Instant};

use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::process::Signal;
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::place::Arrangement;
use crate::talk::{SOON, Talk};

const SETTINGS: [(&str, &str); 1] = [("STARLING_DRAIN_SECONDS", "6")];
const DRAIN: Duration = Duration::from_secs(6);

async fn connect(node: &Node, tenant: &str, user: &str, encoding: Encoding) -> Client {
    let token = Token::of(user).tenant(tenant).sign(node.secret());
    Client::connect(&node.ws_url(), &token, encoding).await.unwrap()
}

#[tokio::test]
async fn a_draining_node_tells_its_clients_serves_them_meanwhile_and_ends_well() {
    for arrangement in [Arrangement::Alone, Arrangement::Cluster] {
        let nodes = arrangement.nodes_with(&SETTINGS).await;
        let tenant = format!("drain-{arrangement:?}");
        let mut clients = Vec::new();
        for encoding in Encoding::ALL {
            clients.push(connect(&nodes[0], &tenant, "ada", encoding).await);
        }
        clients[0].ask("create", json!({"conversation": "c"})).await;
        for client in &mut clients {
            client.join("c").await;
        }
        let begun = Instant::now();
        nodes[0].begin_termination().unwrap();
        wait::until_true(SOON, "/ready to say 503", async || Ok(nodes[0].get("/ready").await?.status == 503))
            .await
            .unwrap();
        assert!(begun.elapsed() < DRAIN / 2, "readiness falls at once");
        assert_eq!(nodes[0].get("/health").await.unwrap().status, 200);
        for client in &mut clients {
            let draining = client.event("draining", |_| true).await;
            let after = draining["reconnect_after_ms"].as_u64().expect("a time");
            assert!(after <= DRAIN.as_millis() as u64, "{after}");
            let seq = client.say("c", "meanwhile").await;
            client.event("message", |message| message["seq"] == seq).await;
        }
        if let Some(other) = nodes.get(1) {
            // Handover: a second socket at the other node goes on, and the first one is closed.
            let mut resume = clients[0].resumption();
            resume["cursors"] = json!({"c": 0});
            let token = Token::of("ada").tenant(&tenant).sign(other.secret());
            let mut handed = Client::resume(&other.ws_url(), &token, Encoding::Json, resume).await.unwrap();
            assert_eq!(handed.welcome()["resumed"], true);
            assert_eq!(clients[0].close_code().await, Some(4409));
            assert_eq!(handed.numbers(2).await, [1, 2]);
            handed.say("c", "from the other node").await;
            clients.remove(0);
        }
        for client in &mut clients {
            assert_eq!(client.close_code().await, Some(1012));
        }
        let status = nodes[0].ended(DRAIN + Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", nodes[0].log());
        assert!(begun.elapsed() < DRAIN + Duration::from_secs(2), "{:?}", begun.elapsed());
        if let Some(other) = nodes.get(1) {
            let mut resume = clients[0].resumption();
            resume["cursors"] = json!({"c": 2});
            let token = Token::of("ada").tenant(&tenant).sign(other.secret());
            let mut back =
                Client::resume(&other.ws_url(), &token, Encoding::MessagePack, resume).await.unwrap();
            assert_eq!(back.welcome()["resumed"], true);
            assert_eq!(back.numbers(1).await, [3]);
        }
    }
}

#[tokio::test]
async fn a_node_by_itself_drains_at_once_and_has_kept_everything_when_it_is_back() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_DRAIN_SECONDS", "30")]).await;
    let mut ada = connect(&nodes[0], "t", "ada", Encoding::Json).await;
    ada.ask("create", json!({"conversation": "c"})).await;
    ada.say("c", "kept").await;
    let resume = ada.resumption();
    ada.close().await.unwrap();
    wait::until_true(SOON, "no connection", async || {
        let health = nodes[0].get("/health").await?.json()?;
        Ok(health["connections"] == 0)
    })
    .await
    .unwrap();
    let begun = Instant::now();
    assert_eq!(nodes[0].terminate(SOON).await.unwrap().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody was there to wait for");
    nodes[0].start_again().await.unwrap();
    // The process held the session; its ticket is enough to go on.
    let token = Token::of("ada").tenant("t").sign(nodes[0].secret());
    let mut back = Client::resume(&nodes[0].ws_url(), &token, Encoding::Json, resume).await.unwrap();
    assert_eq!(back.welcome()["resumed"], true);
    let page = back.ask("history", json!({"conversation": "c"})).await;
    assert_eq!(page["messages"][0]["content"], "kept");
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_DRAIN_SECONDS", "60")]).await;
    let _ada = connect(&nodes[0], "t", "ada", Encoding::Json).await;
    nodes[0].signal(Signal::INT).unwrap();
    wait::until_true(SOON, "a drain", async || Ok(nodes[0].get("/ready").await?.status == 503))
        .await
        .unwrap();
    nodes[0].signal(Signal::TERM).unwrap();
    let status = nodes[0].ended(Duration::from_secs(5)).await.unwrap();
    assert_ne!(status.code(), Some(0), "not a clean drain");
}

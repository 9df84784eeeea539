//! Taking leave: of a node, and of single connections that are to go to other nodes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::http::Request;
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

#[tokio::test]
async fn an_operator_has_any_node_drained_by_a_call_to_any_other() {
    let nodes = Arrangement::Cluster.nodes_with(&SETTINGS).await;
    let [node, other] = nodes.as_slice() else { panic!("two nodes") };
    let call = async |scope: &str, name: &str| {
        let token = Token::of("operator").scope(scope).sign(other.secret());
        let url = format!("{}/v1/nodes/{name}/drain", other.http_url());
        Request::new("POST", &url).bearer(&token).send().await.unwrap().status
    };
    assert_eq!(call("admin", node.name()).await, 403, "nodes are not a tenant's");
    assert_eq!(call("operate", "no-such-node").await, 404);
    assert_eq!(node.get("/ready").await.unwrap().status, 200);
    let mut ada = connect(node, "t", "ada", Encoding::Json).await;
    assert_eq!(call("operate", node.name()).await, 202);
    ada.event("draining", |_| true).await;
    assert_eq!(ada.close_code().await, Some(1012));
    let status = node.ended(DRAIN + Duration::from_secs(5)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert_eq!(other.get("/ready").await.unwrap().status, 200);
}

#[tokio::test]
async fn who_is_connected_for_long_is_asked_to_go_served_meanwhile_and_closed_in_the_end() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_CONNECTION_MAX_AGE_SECONDS", "2")]).await;
    let mut ada = connect(&nodes[0], "t", "ada", Encoding::Json).await;
    ada.ask("create", json!({"conversation": "c"})).await;
    let draining = ada.event("draining", |_| true).await;
    assert!(draining["reconnect_after_ms"].as_u64().is_some_and(|ms| ms <= 10_000), "{draining}");
    ada.say("c", "still here").await;
    assert_eq!(nodes[0].metric("starling_moved_connections_total", "").await.unwrap(), 1.0);
    assert_eq!(ada.closed(Duration::from_secs(60)).await.unwrap().code, Some(1012));
    assert_eq!(nodes[0].get("/ready").await.unwrap().status, 200, "the node itself stays");
}

#[tokio::test]
async fn a_node_that_holds_far_more_than_the_others_asks_half_of_the_surplus_to_go() {
    let nodes =
        Arrangement::Cluster.nodes_with(&[("STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND", "0")]).await;
    let mut clients = Vec::new();
    for n in 0..120 {
        clients.push(connect(&nodes[0], "t", &format!("u{n}"), Encoding::Json).await);
    }
    // The nodes of other tests belong to the same cluster, and hold a few: the mean is at most half. Each shard asks its share
    // in a turn of its own.
    wait::until_true(Duration::from_secs(60), "so many to be asked", async || {
        Ok(nodes[0].metric("starling_moved_connections_total", "").await? >= 25.0)
    })
    .await
    .unwrap();
    let moved = nodes[0].metric("starling_moved_connections_total", "").await.unwrap();
    assert!(moved <= 60.0, "{moved}");
    let mut told = 0;
    for client in &mut clients {
        let events = client.drain_events(Duration::from_millis(5)).await.unwrap();
        told += events.iter().filter(|event| event["ev"] == "draining").count();
    }
    assert!(told as f64 >= moved, "{told} of {moved}");
    assert_eq!(nodes[1].metric("starling_moved_connections_total", "").await.unwrap(), 0.0);
}

#[tokio::test]
async fn in_a_storm_of_handshakes_those_who_are_too_many_are_told_when_to_return() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_HANDSHAKES_PER_SECOND", "5")]).await;
    let (mut taken, mut sent_away) = (0, 0);
    let begun = Instant::now();
    while sent_away < 20 {
        match Upgrade::to(&nodes[0].ws_url()).open().await {
            Ok(client) => {
                taken += 1;
                drop(client);
            }
            Err(Failure::NotUpgraded { status, body }) => {
                assert_eq!(status, 503, "{body}");
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body["error"]["code"], "unavailable");
                assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 500), "{body}");
                sent_away += 1;
            }
            Err(other) => panic!("{other}"),
        }
        // A burst of five, and one every 200 ms.
        let allowed = 6.0 + 5.0 * begun.elapsed().as_secs_f64();
        assert!(f64::from(taken) <= allowed, "{taken} of {allowed}");
    }
    assert!(taken >= 5, "{taken}");
    assert_eq!(nodes[0].get("/ready").await.unwrap().status, 200, "health checks are no handshakes");
    let refused = nodes[0].metric("starling_handshakes_refused_total", "reason=\"storm\"").await.unwrap();
    assert_eq!(refused, 20.0);
}

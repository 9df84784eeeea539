//! Drains of a node, and moves of single connections to other nodes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::process::Signal;
use starling_testkit::token::Token;
use starling_testkit::wait;
use tokio_postgres::NoTls;

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
    let nodes = Arrangement::Cluster.nodes_with(&SETTINGS).await;
    let [node, other] = nodes.as_slice() else { panic!("two nodes") };
    let tenant = "drain";
    let mut clients = Vec::new();
    for encoding in Encoding::ALL {
        clients.push(connect(node, tenant, "ada", encoding).await);
    }
    clients[0].ask("create", json!({"conversation": "c"})).await;
    for client in &mut clients {
        client.join("c").await;
    }
    let begun = Instant::now();
    node.begin_termination().unwrap();
    wait::until_true(SOON, "/ready to say 503", async || Ok(node.get("/ready").await?.status == 503))
        .await
        .unwrap();
    assert!(begun.elapsed() < DRAIN / 2, "readiness falls at once");
    assert_eq!(node.get("/health").await.unwrap().status, 200);
    for client in &mut clients {
        let draining = client.event("draining", |_| true).await;
        let after = draining["reconnect_after_ms"].as_u64().expect("a time");
        assert!(after <= DRAIN.as_millis() as u64, "{after}");
        let seq = client.say("c", "meanwhile").await;
        client.event("message", |message| message["seq"] == seq).await;
    }
    // The client opens a second connection to the other node, and the first one is closed.
    let mut resume = clients[0].resumption();
    resume["cursors"] = json!({"c": 0});
    let token = Token::of("ada").tenant(tenant).sign(other.secret());
    let mut handed = Client::resume(&other.ws_url(), &token, Encoding::Json, resume).await.unwrap();
    assert_eq!(handed.welcome()["resumed"], true);
    assert_eq!(clients[0].close_code().await, Some(4409));
    assert_eq!(handed.numbers(2).await, [1, 2]);
    handed.say("c", "from the other node").await;
    clients.remove(0);
    for client in &mut clients {
        assert_eq!(client.close_code().await, Some(1012));
    }
    let status = node.ended(DRAIN + Duration::from_secs(5)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(begun.elapsed() < DRAIN + Duration::from_secs(2), "{:?}", begun.elapsed());
    let mut resume = clients[0].resumption();
    resume["cursors"] = json!({"c": 2});
    let token = Token::of("ada").tenant(tenant).sign(other.secret());
    let mut back = Client::resume(&other.ws_url(), &token, Encoding::MessagePack, resume).await.unwrap();
    assert_eq!(back.welcome()["resumed"], true);
    assert_eq!(back.numbers(1).await, [3]);
}

#[tokio::test]
async fn a_node_without_others_answers_what_is_under_way_closes_at_once_and_says_how_to_stop_it_now() {
    const LONG: Duration = Duration::from_secs(600);
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_DRAIN_SECONDS", "600")]).await;
    let node = &nodes[0];
    let mut tabs = Vec::new();
    for encoding in Encoding::ALL.into_iter().chain(Encoding::ALL) {
        tabs.push(connect(node, "t", "ada", encoding).await);
    }
    tabs[0].ask("create", json!({"conversation": "c"})).await;
    for tab in &mut tabs {
        tab.join("c").await;
    }
    let begun = Instant::now();
    node.signal(Signal::INT).unwrap();
    let mut sent = 0;
    // Acknowledged messages are kept; others may be.
    let send = |n: u64| json!({"conversation": "c", "key": n.to_string(), "content": "x"});
    while tabs[0].command("send", send(sent)).await.is_ok() {
        sent += 1;
    }
    for tab in &mut tabs {
        assert_eq!(tab.close_code().await, Some(1012));
        let events = tab.drain_events(Duration::from_millis(5)).await.unwrap_or_default();
        assert!(events.iter().all(|event| event["ev"] != "draining"), "there is nowhere to move to");
    }
    let status = node.ended(LONG / 10).await.unwrap();
    println!("ended {:?} after SIGINT; {sent} sends were answered meanwhile", begun.elapsed());
    assert_eq!(status.code(), Some(0), "{}", node.log());
    let log = node.log();
    assert!(log.contains("signal again to stop at once") && log.contains("\"clients\":4"), "{log}");
    node.start_again().await.unwrap();
    let mut back = connect(node, "t", "ada", Encoding::Json).await;
    let page = back.ask("history", json!({"conversation": "c", "limit": 200})).await;
    let kept = page["messages"].as_array().expect("messages").len() as u64;
    assert!(page["more"] == true || kept >= sent, "{kept} of {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_the_database_holds_up_is_answered_before_the_socket_closes() {
    let database = Postgres::shared().await.unwrap().create_database("drain").await.unwrap();
    // With a limit on writes, as by default, the node asks Redis whether this one is allowed, and later commands wait for it.
    let node = Node::builder().database(&database).start().await.unwrap();
    let mut ada = connect(&node, "default", "ada", Encoding::Json).await;
    ada.ask("create", json!({"conversation": "c"})).await;
    let (mut postgres, connection) = tokio_postgres::connect(&database, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let held = postgres.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let sent = ada.command("send", json!({"conversation": "c", "key": "k", "content": "late"}));
    let ending = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        wait::until_true(SOON, "the send to wait", async || {
            Ok(held.query_one(waiting, &[]).await?.get::<_, i64>(0) > 0)
        })
        .await
        .unwrap();
        node.begin_termination().unwrap();
        wait::until_true(SOON, "the drain", async || Ok(node.log().contains("draining"))).await.unwrap();
        // Otherwise the connection would close within a few milliseconds.
        tokio::time::sleep(Duration::from_millis(300)).await;
        held.rollback().await.unwrap();
    };
    let (sent, ()) = tokio::join!(sent, ending);
    assert_eq!(sent.unwrap()["seq"], 1);
    assert_eq!(ada.close_code().await, Some(1012));
    assert!(node.ended(SOON).await.unwrap().success());
    drop(postgres);
    connection.await.unwrap().unwrap();
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
    // The session was only in the process; its ticket is enough to resume it.
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
    // What stops a container sends a signal once the call is made: the drain goes on all the same.
    node.signal(Signal::TERM).unwrap();
    assert_eq!(ada.close_code().await, Some(1012));
    let status = node.ended(DRAIN + Duration::from_secs(5)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    assert!(node.log().contains("draining; send the signal twice to stop at once"), "{}", node.log());
    assert_eq!(other.get("/ready").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_old_connection_is_asked_to_move_each_time_it_is_of_age_and_stays_if_it_does_not() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_CONNECTION_MAX_AGE_SECONDS", "2")]).await;
    let mut ada = connect(&nodes[0], "t", "ada", Encoding::Json).await;
    ada.ask("create", json!({"conversation": "c"})).await;
    for _ in 0..4 {
        let draining = ada.event("draining", |_| true).await;
        assert!(draining["reconnect_after_ms"].as_u64().is_some_and(|ms| ms <= 10_000), "{draining}");
        ada.say("c", "still here").await;
    }
    assert!(nodes[0].metric("starling_moved_connections_total", "").await.unwrap() >= 4.0);
    assert_eq!(nodes[0].metric("starling_connections_closed_total", "1012").await.unwrap(), 0.0);
    assert_eq!(nodes[0].get("/ready").await.unwrap().status, 200, "the node itself stays");
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

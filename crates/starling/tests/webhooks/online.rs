//! Who comes online and goes offline, once over all devices and nodes.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::json;
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::place::{ALLOWED, Place, SOON, assert_signed, everywhere, json_of};

/// The events that these webhooks want.
const EVENTS: [&str; 2] = ["user.online", "user.offline"];

async fn accepting() -> Backend {
    Backend::answering(Answer::Status(204)).await.unwrap()
}

/// What a backend was told, as `online ann`, in the order of its arrival. What comes again has the same id: a node that dies or is
/// stopped after it was answered, and before it noted that, leaves the delivery to another one.
fn told(backend: &Backend) -> Vec<String> {
    let mut seen = HashSet::new();
    let requests = backend.requests().into_iter().filter(|request| seen.insert(request.signed[0].clone()));
    let told = requests.map(|request| {
        let (kind, user) =
            (request.body["type"].as_str().unwrap(), request.body["data"]["user"].as_str().unwrap());
        format!("{} {user}", kind.strip_prefix("user.").unwrap())
    });
    told.collect()
}

/// What a backend was told of one user.
fn told_of(backend: &Backend, user: &str) -> Vec<String> {
    told(backend).into_iter().filter(|told| told.ends_with(&format!(" {user}"))).collect()
}

/// Waits until a backend was told this, as often as that.
async fn until_told(backend: &Backend, what: &str, times: usize) {
    until_true(SOON, what, async || Ok(told(backend).iter().filter(|told| *told == what).count() >= times))
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", told(backend)));
}

#[test]
fn a_user_with_two_devices_comes_online_once_and_goes_offline_once() {
    everywhere(async |place| {
        let backend = accepting().await;
        let body = json!({"url": backend.url("/"), "events": EVENTS, "ordered": true});
        let webhook = json_of(&place.application(0).post("/v1/webhooks", &body).await, 201);
        let (first, second) = (place.connect(0, "ann").await, place.connect(1, "ann").await);
        until_told(&backend, "online ann", 1).await;
        first.close().await.unwrap();
        // Another user who comes and goes afterwards shows that enough time has passed.
        let bob = place.connect(0, "bob").await;
        until_told(&backend, "online bob", 1).await;
        bob.close().await.unwrap();
        until_told(&backend, "offline bob", 1).await;
        assert_eq!(told_of(&backend, "ann"), ["online ann"]);
        assert_eq!(told_of(&backend, "bob"), ["online bob", "offline bob"]);
        second.close().await.unwrap();
        until_told(&backend, "offline ann", 1).await;
        let _again = place.connect(1, "ann").await;
        until_told(&backend, "online ann", 2).await;
        assert_eq!(told_of(&backend, "ann"), ["online ann", "offline ann", "online ann"]);
        let secret = starling_webhooks::Secret::parse(webhook["secret"].as_str().unwrap()).unwrap();
        for request in backend.requests() {
            assert_signed(&request, &secret);
            assert_eq!(request.body["tenant"], place.tenant());
        }
    });
}

#[test]
fn the_first_webhook_is_told_who_is_online_and_others_hear_changes() {
    everywhere(async |place| {
        let (_ann, bob) = (place.connect(0, "ann").await, place.connect(1, "bob").await);
        let _stranger = place.connect_stranger("eve").await;
        let (first, second) = (accepting().await, accepting().await);
        let add = async |backend: &Backend, place: &Place| {
            let body = json!({"url": backend.url("/"), "events": EVENTS});
            json_of(&place.application(0).post("/v1/webhooks", &body).await, 201)
        };
        add(&first, place).await;
        for user in ["online ann", "online bob"] {
            until_told(&first, user, 1).await;
        }
        add(&second, place).await;
        bob.close().await.unwrap();
        until_told(&second, "offline bob", 1).await;
        until_told(&first, "offline bob", 1).await;
        assert_eq!(told(&second), ["offline bob"]);
        assert_eq!((told_of(&first, "ann").len(), told_of(&first, "eve").len()), (1, 0));
    });
}

/// Two nodes of the test's own, and a backend that is told who is online there.
struct Two {
    cluster: Cluster,
    backend: Backend,
}

impl Two {
    async fn start() -> Two {
        let cluster = Cluster::builder(2).unlimited().env(ALLOWED.0, ALLOWED.1).start().await.unwrap();
        let backend = accepting().await;
        let node = cluster.node(0);
        let token = Token::of("backend").scope("webhooks").sign(node.secret());
        let url = format!("{}/v1/webhooks", node.http_url());
        let body = json!({"url": backend.url("/"), "events": EVENTS, "ordered": true});
        json_of(&Request::new("POST", &url).bearer(&token).json(&body).send().await.unwrap(), 201);
        let two = Two { cluster, backend };
        // Both nodes know the webhook.
        for node in two.nodes() {
            let knows = async || Ok(node.metric("starling_webhooks", "").await? == 1.0);
            until_true(SOON, "the node to know the webhook", knows).await.unwrap();
        }
        two
    }

    fn nodes(&self) -> [&Node; 2] {
        [self.cluster.node(0), self.cluster.node(1)]
    }

    /// A user who comes to a node and goes again, some times: then at least so many lingers have passed.
    async fn let_time_pass(&self, node: &Node, user: &str, lingers: usize) {
        for number in 1..=lingers {
            let client = connect(node, user).await;
            // A visit that ends before the node has looked is not told.
            until_told(&self.backend, &format!("online {user}"), number).await;
            client.close().await.unwrap();
            until_told(&self.backend, &format!("offline {user}"), number).await;
        }
    }
}

async fn connect(node: &Node, user: &str) -> Client {
    Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await.unwrap()
}

#[tokio::test]
async fn users_of_a_killed_node_go_offline_unless_they_are_elsewhere() {
    let two = Two::start().await;
    let [one, other] = two.nodes();
    let (_ann, _bob_here, _cid) =
        (connect(one, "ann").await, connect(one, "bob").await, connect(one, "cid").await);
    let _bob_there = connect(other, "bob").await;
    for user in ["online ann", "online bob", "online cid"] {
        until_told(&two.backend, user, 1).await;
    }
    one.kill().await.unwrap();
    let killed = Instant::now();
    // She comes back in time.
    let _ann = connect(other, "ann").await;
    until_told(&two.backend, "offline cid", 1).await;
    println!("offline {:?} after the node was killed", killed.elapsed());
    // It is told once, also when the node is back.
    one.start_again().await.unwrap();
    let _cid = connect(one, "cid").await;
    until_told(&two.backend, "online cid", 2).await;
    two.let_time_pass(other, "dan", 1).await;
    assert_eq!(told_of(&two.backend, "ann"), ["online ann"]);
    assert_eq!(told_of(&two.backend, "bob"), ["online bob"]);
    assert_eq!(told_of(&two.backend, "cid"), ["online cid", "offline cid", "online cid"]);
}

#[tokio::test]
async fn a_rolling_restart_with_clients_that_come_back_is_no_event() {
    let two = Two::start().await;
    let [one, other] = two.nodes();
    let mut ann = connect(one, "ann").await;
    until_told(&two.backend, "online ann", 1).await;
    for (restarted, refuge) in [(one, other), (other, one)] {
        restarted.begin_termination().unwrap();
        // The node asks its client to go, and the client comes back elsewhere.
        ann.wait_for_event("draining").await.unwrap();
        ann.close().await.unwrap();
        ann = connect(refuge, "ann").await;
        restarted.ended(SOON).await.unwrap();
        restarted.start_again().await.unwrap();
    }
    // What the nodes left behind is removed by now.
    two.let_time_pass(one, "dan", 2).await;
    assert_eq!(told_of(&two.backend, "ann"), ["online ann"]);
}

#[tokio::test]
async fn an_empty_redis_is_no_event() {
    let two = Two::start().await;
    let [one, other] = two.nodes();
    let (_here, _there) = (connect(one, "ann").await, connect(other, "ann").await);
    until_told(&two.backend, "online ann", 1).await;
    two.cluster.redis().unwrap().flushall().await.unwrap();
    two.let_time_pass(other, "dan", 2).await;
    assert_eq!(told_of(&two.backend, "ann"), ["online ann"]);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_and_lives_tells_who_is_there() {
    let two = Two::start().await;
    let [one, _] = two.nodes();
    let _ann = connect(one, "ann").await;
    until_told(&two.backend, "online ann", 1).await;
    one.stop().unwrap();
    until_told(&two.backend, "offline ann", 1).await;
    one.resume().unwrap();
    until_told(&two.backend, "online ann", 2).await;
    assert_eq!(told_of(&two.backend, "ann"), ["online ann", "offline ann", "online ann"]);
}

//! Limits of users, connections, addresses and tenants.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::node::Node;
use starling_testkit::token::Token;
use starling_testkit::wait;
use tokio::time::Instant;

use crate::place::Arrangement;
use crate::talk::{SOON, Talk, keys};

const BOTH: [Arrangement; 2] = [Arrangement::Alone, Arrangement::Cluster];

/// Connects a user of a new tenant to the first and to the last node.
async fn twice(nodes: &[Node], user: &str, tenant: &str) -> (Client, Client) {
    (
        connect(&nodes[0], user, tenant).await.unwrap(),
        connect(nodes.last().unwrap(), user, tenant).await.unwrap(),
    )
}

async fn connect(node: &Node, user: &str, tenant: &str) -> Result<Client, Failure> {
    let token = Token::of(user).tenant(tenant).sign(node.secret());
    Client::connect(&node.ws_url(), &token, Encoding::MessagePack).await
}

#[tokio::test]
async fn writes_of_one_user_are_counted_over_all_nodes() {
    for arrangement in BOTH {
        let nodes = arrangement.nodes_with(&[("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "12")]).await;
        let tenant = format!("writes-{arrangement:?}");
        let (mut here, mut there) = twice(&nodes, "ada", &tenant).await;
        here.ask("create", json!({"conversation": "c", "members": ["bob"]})).await;
        let (mut accepted, mut places) = (1, Vec::new());
        for n in 0..10 {
            let send = json!({"conversation": "c", "key": format!("k{n}"), "content": "x"});
            let publish = json!({"topic": "t", "data": n});
            for answer in [here.command("send", send).await, there.command("publish", publish).await] {
                match answer {
                    Ok(_) => accepted += 1,
                    Err(failure) => places.push(Instant::now() + told(&failure)),
                }
            }
        }
        // One more every five seconds, in case the machine is slow.
        assert!((12..=14).contains(&accepted) && accepted + places.len() == 21, "{accepted} accepted");
        // The retry times are five seconds apart, whichever node refuses. The speed of the replies depends on the machine.
        let line = *places.last().unwrap() - places[0];
        let expected = Duration::from_secs(5) * (places.len() - 1) as u32;
        assert!(places.is_sorted() && line > expected / 2, "{line:?} for {} places", places.len());
        // Other users and reads are unaffected.
        let mut bob = connect(&nodes[0], "bob", &tenant).await.unwrap();
        bob.say("c", "I may").await;
        let page = there.ask("history", json!({"conversation": "c"})).await;
        assert!(!page["messages"].as_array().unwrap().is_empty());
        let mut n = 0;
        let after = loop {
            n += 1;
            let send = json!({"conversation": "c", "key": format!("b{n}"), "content": "x"});
            if let Err(failure) = bob.command("send", send).await {
                break told(&failure);
            }
        };
        assert!(after <= Duration::from_secs(5), "{after:?} for the first place");
        tokio::time::sleep(after + Duration::from_millis(50)).await;
        bob.say("c", "after the time that was said").await;
    }
}

/// Returns the `retry_after_ms` of a command that was refused for being too fast.
#[track_caller]
fn told(failure: &Failure) -> Duration {
    let Failure::Refused(reply) = failure else { panic!("{failure}") };
    assert_eq!(reply.code, "rate_limited");
    Duration::from_millis(reply.retry_after_ms.filter(|ms| *ms > 0).expect("a time to retry"))
}

#[tokio::test]
async fn of_four_hundred_joins_that_come_back_when_told_to_each_is_refused_once_at_most() {
    const JOINS: usize = 400;
    let nodes =
        Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND", "100")]).await;
    let mut ada = connect(&nodes[0], "ada", "t").await.unwrap();
    ada.ask("create", json!({"conversation": "c"})).await;
    let mut coming = BinaryHeap::from(vec![Reverse(Instant::now()); JOINS]);
    let (mut joined, mut refused) = (0, 0);
    while let Some(Reverse(next)) = coming.peek().copied() {
        tokio::time::sleep_until(next).await;
        let mut ids = Vec::new();
        while coming.peek().is_some_and(|Reverse(at)| *at <= Instant::now()) {
            coming.pop();
            ids.push(ada.submit("join", json!({"conversation": "c"})).await.unwrap());
        }
        for id in ids {
            match ada.reply(id).await {
                Ok(_) => joined += 1,
                Err(failure) => {
                    refused += 1;
                    coming.push(Reverse(Instant::now() + told(&failure)));
                }
            }
        }
    }
    println!("{joined} joined, with {refused} refusals");
    assert!(joined == JOINS && refused <= JOINS, "{joined} joined, with {refused} refusals");
}

#[tokio::test]
async fn a_write_that_was_refused_has_not_happened() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "3")]).await;
    let mut ada = connect(&nodes[0], "ada", "t").await.unwrap();
    ada.ask("create", json!({"conversation": "c"})).await;
    ada.say("c", "one").await;
    ada.say("c", "two").await;
    let send = json!({"conversation": "c", "key": "k", "content": "refused"});
    assert_eq!(ada.refused("send", send).await, "rate_limited");
    assert_eq!(ada.refused("create", json!({"conversation": "d"})).await, "rate_limited");
    assert_eq!(
        ada.ask("history", json!({"conversation": "c"})).await["messages"].as_array().unwrap().len(),
        2
    );
    assert_eq!(ada.refused("join", json!({"conversation": "d"})).await, "not_found");
}

#[tokio::test]
async fn sends_to_names_that_do_not_exist_are_writes_too_and_tell_nothing() {
    for arrangement in BOTH {
        let nodes = arrangement.nodes_with(&[("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "6")]).await;
        let tenant = format!("invented-{arrangement:?}");
        let mut owner = connect(&nodes[0], "owner", &tenant).await.unwrap();
        owner.ask("create", json!({"conversation": "c"})).await;
        // The conversation is cached on the node, like a busy one.
        owner.join("c").await;
        for (user, names) in [("ada", ["x", "y"]), ("bob", ["c", "c"])] {
            let mut stranger = connect(&nodes[0], user, &tenant).await.unwrap();
            let mut answers = Vec::new();
            for n in 0..20 {
                let name = names[n % 2];
                let send = json!({"conversation": format!("{name}"), "key": "k", "content": "x"});
                answers.push(stranger.refused("send", send).await);
            }
            let allowed = answers.iter().filter(|code| *code == "not_found").count();
            let limited = answers.iter().filter(|code| *code == "rate_limited").count();
            // One more every ten seconds, in case the machine is slow.
            assert!((6..=9).contains(&allowed) && allowed + limited == 20, "{user}: {answers:?}");
        }
    }
}

#[tokio::test]
async fn commands_of_one_connection_are_limited_per_second() {
    let nodes =
        Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND", "10")]).await;
    let (mut ada, mut other) = twice(&nodes, "ada", "t").await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(ada.submit("ping", Value::Null).await.unwrap());
    }
    let (mut answered, mut longest) = (0, Duration::ZERO);
    for id in ids {
        match ada.reply(id).await {
            Ok(_) => answered += 1,
            Err(failure) => longest = longest.max(told(&failure)),
        }
    }
    // `connect` was one of them.
    assert!((9..30).contains(&answered), "{answered}");
    // A tenth of a second for each refused command.
    assert!(longest <= Duration::from_millis(100) * (40 - answered), "{longest:?}");
    other.ask("ping", json!({})).await;
    tokio::time::sleep(longest + Duration::from_millis(50)).await;
    ada.ask("ping", json!({})).await;
}

#[tokio::test]
async fn a_session_is_in_so_many_conversations_and_topics_at_most() {
    let settings = [("STARLING_LIMIT_SESSION_JOINS", "2"), ("STARLING_LIMIT_SESSION_TOPICS", "2")];
    let nodes = Arrangement::Alone.nodes_with(&settings).await;
    let mut ada = connect(&nodes[0], "ada", "t").await.unwrap();
    for name in ["a", "b", "c"] {
        ada.ask("create", json!({"conversation": name})).await;
    }
    for (enter, leave, field) in [("join", "leave", "conversation"), ("subscribe", "unsubscribe", "topic")] {
        for name in ["a", "b", "a"] {
            ada.ask(enter, json!({field: name})).await;
        }
        let refusal = ada.refusal(enter, json!({field: "c"})).await;
        assert_eq!(refusal.code, "rate_limited");
        assert!(refusal.retry_after_ms.is_some());
        ada.ask(leave, json!({field: "a"})).await;
        ada.ask(enter, json!({field: "c"})).await;
    }
    // A resume that names too many: the session's own conversations come first, and the rest is reported as gone. Naming
    // its own again does not count twice.
    for (cursors, gone) in [(json!({"b": 0, "c": 0}), json!([])), (json!({"a": 0, "c": 0}), json!(["a"]))] {
        let mut resume = ada.resumption();
        resume["cursors"] = cursors;
        ada.cut();
        let token = Token::of("ada").tenant("t").sign(nodes[0].secret());
        ada = Client::resume(&nodes[0].ws_url(), &token, Encoding::Json, resume).await.unwrap();
        assert_eq!(keys(&ada.welcome()["conversations"]), ["b", "c"]);
        assert_eq!(ada.welcome()["gone"], gone);
    }
}

#[tokio::test]
async fn connections_of_one_address_are_limited_with_429() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_ADDRESS_CONNECTIONS", "3")]).await;
    let upgrade = Upgrade::to(&nodes[0].ws_url());
    let mut open = Vec::new();
    wait::until_true(SOON, "a refusal", async || match upgrade.open().await {
        Ok(client) => {
            open.push(client);
            anyhow::ensure!(open.len() <= 3, "more than three");
            Ok(false)
        }
        Err(Failure::NotUpgraded { status, .. }) => {
            assert_eq!(status, 429);
            Ok(true)
        }
        Err(failure) => panic!("{failure}"),
    })
    .await
    .unwrap();
    assert!(open.len() >= 2, "the start's own request may still have counted");
    drop(open);
    wait::until_true(SOON, "a free place", async || Ok(upgrade.open().await.is_ok())).await.unwrap();
}

#[tokio::test]
async fn handshakes_of_one_address_are_limited_with_429() {
    let nodes = Arrangement::Alone.nodes_with(&[("STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND", "5")]).await;
    let upgrade = Upgrade::to(&nodes[0].ws_url());
    let mut statuses = Vec::new();
    for _ in 0..30 {
        if let Err(Failure::NotUpgraded { status, .. }) = upgrade.open().await {
            statuses.push(status);
        }
    }
    assert!(statuses.len() > 5 && statuses.iter().all(|status| *status == 429), "{statuses:?}");
    wait::until_true(SOON, "a handshake", async || Ok(upgrade.open().await.is_ok())).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_tenant_are_limited_over_all_nodes() {
    for arrangement in BOTH {
        let nodes = arrangement.nodes_with(&[("STARLING_LIMIT_TENANT_CONNECTIONS", "2")]).await;
        let tenant = format!("crowd-{arrangement:?}");
        let (mut first, second) = twice(&nodes, "ada", &tenant).await;
        // The nodes exchange their counts once a second.
        for node in &nodes {
            let refused = wait::until(SOON, "a refusal", async || {
                let token = Token::of("bob").tenant(&tenant).sign(node.secret());
                let mut bob = Upgrade::to(&node.ws_url()).open().await?;
                Ok(match bob.hello(json!({ "token": token })).await {
                    Ok(_) => None,
                    Err(failure) => Some((failure, bob)),
                })
            });
            let (failure, mut bob) = refused.await.unwrap();
            assert_eq!(failure.code(), Some("rate_limited"), "{failure}");
            assert_eq!(bob.close_code().await, Some(4429));
        }
        // Another tenant and existing connections are unaffected.
        connect(&nodes[0], "bob", &format!("{tenant}-other")).await.unwrap();
        first.ask("ping", json!({})).await;
        second.cut();
        wait::until_true(SOON, "a free place", async || Ok(connect(&nodes[0], "bob", &tenant).await.is_ok()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_session_that_moves_takes_its_place_along_where_a_tenant_has_all_its_connections() {
    for arrangement in BOTH {
        let nodes = arrangement.nodes_with(&[("STARLING_LIMIT_TENANT_CONNECTIONS", "2")]).await;
        let tenant = format!("moves-{arrangement:?}");
        let (ada, _other) = twice(&nodes, "ada", &tenant).await;
        let there = nodes.last().unwrap();
        let token = |user: &str| Token::of(user).tenant(&tenant).sign(there.secret());
        // The nodes exchange their counts once a second.
        let full = async || Ok(connect(there, "bob", &tenant).await.is_err());
        wait::until_true(SOON, "the limit", full).await.unwrap();
        let resume = ada.resumption();
        let url = there.ws_url();
        let moved = Client::resume(&url, &token("ada"), Encoding::MessagePack, resume).await.unwrap();
        assert_eq!(moved.welcome()["resumed"], true);
        // A session that cannot be resumed is a new one, and exceeds the limit.
        let foreign = Client::resume(&url, &token("bob"), Encoding::MessagePack, moved.resumption()).await;
        assert_eq!(foreign.unwrap_err().code(), Some("rate_limited"));
    }
}

#[tokio::test]
async fn conversations_of_one_tenant_are_limited() {
    for arrangement in BOTH {
        let nodes = arrangement.nodes_with(&[("STARLING_LIMIT_TENANT_CONVERSATIONS", "2")]).await;
        let tenant = format!("rooms-{arrangement:?}");
        let (mut here, mut there) = twice(&nodes, "ada", &tenant).await;
        here.ask("create", json!({"conversation": "a"})).await;
        there.ask("create", json!({"conversation": "b"})).await;
        let refusal = here.refusal("create", json!({"conversation": "c"})).await;
        assert!(refusal.code == "rate_limited" && refusal.retry_after_ms.is_some(), "{refusal:?}");
        // Creating an existing conversation again does not create another one.
        assert_eq!(here.ask("create", json!({"conversation": "b"})).await["created"], false);
    }
}

#[tokio::test]
async fn a_tenant_may_have_limits_of_its_own() {
    let file = "[tenants.small]\nuser_writes_per_minute = 2\nconnections = 1\n";
    let node = Node::builder()
        .file("starling.toml", file)
        .arg("--config")
        .arg("starling.toml")
        .start()
        .await
        .unwrap();
    let mut ada = connect(&node, "ada", "small").await.unwrap();
    assert_eq!(connect(&node, "bob", "small").await.unwrap_err().code(), Some("rate_limited"));
    ada.ask("create", json!({"conversation": "c"})).await;
    ada.say("c", "one").await;
    let send = json!({"conversation": "c", "key": "k", "content": "x"});
    assert_eq!(ada.refused("send", send).await, "rate_limited");
    let (mut one, _two) =
        (connect(&node, "ada", "large").await.unwrap(), connect(&node, "bob", "large").await.unwrap());
    one.ask("create", json!({"conversation": "c"})).await;
    for n in 0..5 {
        one.say("c", &format!("text {n}")).await;
    }
}

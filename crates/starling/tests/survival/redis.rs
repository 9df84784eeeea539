//! Behaviour while Redis is down for all nodes, and on a single node that is cut off from it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;
use starling_testkit::redis::Redis;
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::TURN;
use crate::talk::{message, publication, publish, say};

/// Timeout for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Writes of one user per minute: all at once, then one more every fifteen seconds.
const WRITES_PER_MINUTE: u64 = 4;

/// A numbering that starts again right after a subscription: later publications must not be taken for repeats.
#[tokio::test(flavor = "multi_thread")]
async fn publications_after_redis_was_emptied_reach_those_who_have_just_subscribed() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    for round in 0..5 {
        let topic = format!("t{round}");
        let mut ada =
            Client::connect(&cluster.node(0).ws_url(), &cluster.token("ada"), Encoding::Json).await?;
        let mut bob =
            Client::connect(&cluster.node(1).ws_url(), &cluster.token("bob"), Encoding::Json).await?;
        for n in 0..5 {
            ada.command("publish", json!({"topic": topic, "data": n})).await?;
        }
        for client in [&mut ada, &mut bob] {
            client.set_patience(SOON);
            let at = client.command("subscribe", json!({ "topic": topic })).await?;
            ensure!(at["offset"] == 5, "{at}");
        }
        cluster.redis()?.flushall().await?;
        for n in 0..3 {
            ada.command("publish", json!({"topic": topic, "data": format!("anew {n}")})).await?;
        }
        for client in [&mut ada, &mut bob] {
            for n in 0..3 {
                let event = client.wait_for_event("publication").await?;
                ensure!(event["data"] == format!("anew {n}") && event["offset"] == n + 1, "{event}");
            }
        }
        // A new subscriber starts at the position of the new numbering.
        let at = bob.command("subscribe", json!({ "topic": topic })).await?;
        ensure!(at["offset"] == 3, "{at}");
        ada.command("publish", json!({"topic": topic, "data": "last"})).await?;
        let since = json!({"epoch": at["epoch"], "offset": at["offset"]});
        let at = ada.command("subscribe", json!({"topic": topic, "since": since})).await?;
        ensure!(at["recovered"] == true && at["replayed"] == 1, "{at}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_node_gives_a_user_one_allowance_and_no_more() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2)
        .env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", &WRITES_PER_MINUTE.to_string())
        .start()
        .await?;
    let url = |n: usize| cluster.node(n).ws_url();
    let mut owner = Client::connect(&url(0), &cluster.token("owner"), Encoding::Json).await?;
    owner.command("create", json!({"conversation": "c", "members": ["ada"]})).await?;
    let mut sockets = Vec::new();
    for n in 0..2 {
        sockets.push(Client::connect(&url(n), &cluster.token("ada"), Encoding::Json).await?);
    }
    cluster.redis()?.kill().await?;
    let begun = Instant::now();
    let mut accepted = [0, 0];
    for k in 0..3 * WRITES_PER_MINUTE {
        for (n, socket) in sockets.iter_mut().enumerate() {
            let send = json!({"conversation": "c", "key": format!("{n}-{k}"), "content": "x"});
            match socket.command("send", send).await {
                Ok(_) => accepted[n] += 1,
                Err(Failure::Refused(reply)) => {
                    ensure!(reply.code == "rate_limited" && reply.retry_after_ms.is_some(), "{reply:?}");
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
    let came_back = begun.elapsed().as_secs() * WRITES_PER_MINUTE / 60 + 1;
    for accepted in accepted {
        let one = WRITES_PER_MINUTE..=WRITES_PER_MINUTE + came_back;
        ensure!(one.contains(&accepted), "{accepted} were accepted on one node, not {one:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_alone_is_cut_off_says_so_and_is_whole_again_when_the_link_is() -> Result<()> {
    let _turn = TURN.lock().await;
    let redis = Redis::start().await?;
    let database = Postgres::shared().await?.create_database("deaf").await?;
    let link = Link::to(redis.address()).await?;
    let start = |url: &str| Node::builder().unlimited().redis(url).database(&database).start();
    let (deaf, other) = tokio::try_join!(start(&link.through(&redis.url())), start(&redis.url()))?;
    let mut ada = Client::connect(&deaf.ws_url(), &deaf.token("ada"), Encoding::Json).await?;
    let mut bob = Client::connect(&other.ws_url(), &other.token("bob"), Encoding::MessagePack).await?;
    ada.set_patience(SOON);
    ada.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
    ada.command("join", json!({"conversation": "c"})).await?;
    ada.command("subscribe", json!({"topic": "t"})).await?;

    link.pause();
    until_true(SOON, "the node to say that it is deaf", async || {
        let (readiness, of_other) = (deaf.get("/ready").await?, other.get("/ready").await?);
        ensure!(of_other.status == 200, "the other one: {}", of_other.text());
        if readiness.status == 200 {
            return Ok(false);
        }
        let said: Value = readiness.json()?;
        ensure!(readiness.status == 503 && said["reasons"] == json!(["deaf"]), "{said}");
        ensure!(deaf.get("/health").await?.json()?["status"] == "unfit");
        Ok(true)
    })
    .await?;
    // The deaf node only learns of it from the database.
    say(&mut bob, "c", "unheard").await?;
    ensure!(message(&mut ada).await? == (1, "unheard".into()), "not what Bob said");
    other.ready().await.context("the other one has become deaf, too")?;

    link.resume();
    deaf.ready().await?;
    other.ready().await.context("the other one has become deaf")?;
    // Events that only Redis carries arrive again.
    publish(&mut bob, "t", 7).await?;
    ensure!(publication(&mut ada).await?.1 == 7, "not what Bob published");
    say(&mut bob, "c", "heard").await?;
    ensure!(message(&mut ada).await? == (2, "heard".into()), "not what Bob said then");
    Ok(())
}

/// How long nothing may change: longer than a node takes to find out whether others hear each other.
const STEADY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_every_node_stays_ready_and_serves_from_the_log() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(3).unlimited().start().await?;
    let mut ada = Client::connect(&cluster.node(0).ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    let mut bob = Client::connect(&cluster.node(1).ws_url(), &cluster.token("bob"), Encoding::Json).await?;
    bob.set_patience(SOON);
    ada.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
    bob.command("join", json!({"conversation": "c"})).await?;
    for (turn, hangs) in [(1, true), (2, false)] {
        if hangs {
            cluster.redis()?.stop()?;
        } else {
            cluster.redis()?.kill().await?;
        }
        let (began, mut degraded) = (Instant::now(), None);
        while degraded.is_none_or(|since: Instant| since.elapsed() < STEADY) {
            ensure!(began.elapsed() < 2 * SOON, "not all nodes noticed it");
            let mut reasons = Vec::new();
            for node in cluster.nodes() {
                let readiness = node.get("/ready").await?;
                ensure!(readiness.status == 200, "{}: {}", node.name(), readiness.text());
                reasons.push(readiness.json()?["reasons"].clone());
            }
            if reasons.iter().all(|reasons| *reasons == json!(["degraded"])) {
                degraded.get_or_insert_with(Instant::now);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for node in cluster.nodes() {
            ensure!(node.get("/health").await?.json()?["status"] == "degraded");
        }
        say(&mut ada, "c", "by the log").await?;
        ensure!(message(&mut bob).await? == (turn, "by the log".into()));
        if hangs {
            cluster.redis()?.resume()?;
        } else {
            cluster.redis()?.restart().await?;
        }
        until_true(SOON, "all nodes to be whole", async || {
            let mut whole = true;
            for node in cluster.nodes() {
                let readiness = node.get("/ready").await?;
                ensure!(readiness.status == 200, "{}: {}", node.name(), readiness.text());
                whole &= readiness.json()?["reasons"] == json!([]);
            }
            Ok(whole)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_cut_off_gets_no_clients_while_others_hear_each_other() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let link = Link::to(cluster.redis()?.address()).await?;
    link.pause();
    // Longer than a node waits before it reports that it hears.
    tokio::time::sleep(STEADY / 2).await;
    let apart = Node::builder()
        .name("apart")
        .secret(cluster.node(0).secret())
        .redis(&link.through(cluster.redis_url()))
        .database(cluster.database_url())
        .without_waiting()
        .start()
        .await?;
    until_true(SOON, "an answer", async || Ok(apart.get("/ready").await.is_ok())).await?;
    let began = Instant::now();
    while began.elapsed() < STEADY {
        let readiness = apart.get("/ready").await?;
        ensure!(readiness.status == 503, "after {:?}: {}", began.elapsed(), readiness.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    link.resume();
    apart.ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_while_its_node_heard_nothing_is_closed_soon_after() -> Result<()> {
    let _turn = TURN.lock().await;
    let redis = Redis::start().await?;
    let database = Postgres::shared().await?.create_database("unheard").await?;
    let mut link = Link::to(redis.address()).await?;
    let start = |url: &str| Node::builder().unlimited().redis(url).database(&database).start();
    let (deaf, other) = tokio::try_join!(start(&link.through(&redis.url())), start(&redis.url()))?;
    let mut ada = Client::connect(&deaf.ws_url(), &deaf.token("ada"), Encoding::Json).await?;
    let mut bob = Client::connect(&deaf.ws_url(), &deaf.token("bob"), Encoding::MessagePack).await?;
    ada.set_patience(SOON);

    link.refuse().await;
    link.cut();
    until_true(SOON, "the link to be cut", async || Ok(link.connections() == 0)).await?;
    let admin = Token::of("root").scope("admin").sign(other.secret());
    let session = ada.welcome()["session"].as_str().context("a session")?.to_owned();
    let url = format!("{}/v1/sessions/{session}", other.http_url());
    let ended = Request::new("DELETE", &url).bearer(&admin).send().await?;
    ensure!(ended.status == 204, "{}", ended.text());
    ada.command("ping", Value::Null).await.context("nobody has told her node")?;

    link.accept().await?;
    let closed = ada.closed(SOON).await?;
    ensure!(closed.code == Some(4410), "{closed:?}");
    // Other clients stay connected.
    bob.command("ping", Value::Null).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drops_while_redis_hangs_is_not_attached_when_it_answers_again() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(1).unlimited().start().await?;
    let node = cluster.node(0);
    let bob = Client::connect(&node.ws_url(), &cluster.token("bob"), Encoding::Json).await?;
    let mut expected = json!({"session": bob.welcome()["session"], "user": "bob", "node": node.name()});
    cluster.redis()?.stop()?;
    let knows = async || Ok(node.get("/ready").await?.json()?["reasons"] == json!(["degraded"]));
    until_true(SOON, "the node to know it", knows).await?;
    bob.cut();
    until_true(SOON, "the socket to be gone", async || {
        Ok(node.get("/health").await?.json()?["connections"] == 0)
    })
    .await?;
    cluster.redis()?.resume()?;
    let admin = Token::of("root").scope("admin").sign(node.secret());
    expected["attached"] = false.into();
    until_true(SOON, "his session not to be attached", async || {
        let url = format!("{}/v1/sessions?user=bob", node.http_url());
        let answer = Request::new("GET", &url).bearer(&admin).send().await?;
        if answer.status == 503 {
            return Ok(false);
        }
        let listed: Value = answer.json()?;
        let session = &listed["sessions"][0];
        let fields = expected.as_object().into_iter().flatten();
        Ok(fields.into_iter().all(|(field, value)| session[field] == *value))
    })
    .await
}

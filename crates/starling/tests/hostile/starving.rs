//! A client that asks for more than its share: reads that must not delay the messages of others, resumes that name missing conversations,
//! subscriptions that must store nothing, and limits that hold under simultaneous requests. The tests count; they do not measure time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::postgres::Postgres;
use starling_testkit::token::Token;
use starling_testkit::wait;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::witness::Witness;
use crate::{SOON, TURN};

async fn client(node: &Node, token: &str) -> Client {
    let mut client = Client::connect(&node.ws_url(), token, Encoding::Json).await.unwrap();
    client.set_patience(SOON);
    client
}

/// Returns the number of the node's reads of the database.
async fn reads(node: &Node) -> f64 {
    node.metric("starling_store_call_seconds_count", "work=\"read\"").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_hang_do_not_take_the_connections_of_messages() -> Result<()> {
    let _turn = TURN.lock().await;
    let database = Postgres::shared().await?.create_database("starving").await?;
    let node = Node::builder()
        .database(&database)
        .unlimited()
        .env("STARLING_DATABASE_POOL_SIZE", "6")
        .start()
        .await?;
    let witness = Witness::of(&node).await;
    // The node knows its members before they are locked.
    let mut sender = client(&node, &node.token("sender")).await;
    sender.command("create", json!({"conversation": "sender"})).await?;
    sender.command("join", json!({"conversation": "sender"})).await?;
    let mut loud = Vec::new();
    for n in 0..40 {
        loud.push(client(&node, &node.token(&format!("loud{n}"))).await);
    }
    // Lookups of members hang, but appends of messages do not.
    let (mut postgres, connection) = tokio_postgres::connect(&database, NoTls).await?;
    let connection = tokio::spawn(connection);
    let transaction = postgres.transaction().await?;
    transaction.batch_execute("LOCK TABLE members IN ACCESS EXCLUSIVE MODE").await?;
    let ended = Arc::new(AtomicU64::new(0));
    let mut joins = JoinSet::new();
    for (n, mut socket) in loud.into_iter().enumerate() {
        let ended = ended.clone();
        joins.spawn(async move {
            // What it is told does not matter, only that a read may have ended.
            let _ = socket.command("join", json!({"conversation": format!("invented{n}")})).await;
            ended.fetch_add(1, Ordering::SeqCst);
        });
    }
    let busy = "pool=\"primary\",state=\"used\"";
    let hang = async || Ok(node.metric("starling_pool_connections", busy).await? >= 2.0);
    wait::until_true(SOON, "all connections for reads to hang", hang).await?;
    // Messages that wait for a connection of the reads are taken after one of these has ended, not before.
    let mut sent = 0;
    wait::until_true(SOON, "ten messages to be taken while no read ends", async || {
        let before = ended.load(Ordering::SeqCst);
        for _ in 0..10 {
            sent += 1;
            let key = format!("k{sent}");
            let send = json!({"conversation": "sender", "key": key, "content": "x"});
            sender.command("send", send).await?;
        }
        Ok(ended.load(Ordering::SeqCst) == before && hang().await?)
    })
    .await?;
    witness.was_served().await;
    joins.abort_all();
    transaction.rollback().await?;
    drop(postgres);
    connection.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_charged_to_the_user_over_all_sockets_and_others_read_on() -> Result<()> {
    const PER_SECOND: u64 = 20;
    const SOCKETS: usize = 60;
    let _turn = TURN.lock().await;
    let node = Node::builder()
        .env("STARLING_LIMIT_USER_READS_PER_SECOND", &PER_SECOND.to_string())
        .env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "0")
        .env("STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND", "0")
        .start()
        .await?;
    let witness = Witness::of(&node).await;
    let mut quiet = client(&node, &node.token("quiet")).await;
    quiet.command("create", json!({"conversation": "c", "members": ["loud"]})).await?;
    quiet.command("send", json!({"conversation": "c", "key": "k", "content": "x"})).await?;
    let begun = Instant::now();
    let mut floods = JoinSet::new();
    for _ in 0..SOCKETS {
        let mut socket = client(&node, &node.token("loud")).await;
        floods.spawn(async move {
            let (mut served, mut times) = (0, Vec::new());
            for _ in 0..20 {
                match socket.command("history", json!({"conversation": "c"})).await {
                    Ok(_) => served += 1,
                    Err(Failure::Refused(reply)) => {
                        ensure!(reply.code == "rate_limited", "{reply:?}");
                        times.push(reply.retry_after_ms.context("a time to come again")?);
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
            Ok((served, times))
        });
    }
    for _ in 0..5 {
        quiet.command("history", json!({"conversation": "c"})).await?;
    }
    let (mut served, mut times) = (0, Vec::new());
    while let Some(flood) = floods.join_next().await {
        let (more, some) = flood??;
        served += more;
        times.extend(some);
    }
    let took = begun.elapsed();
    // A burst of one second, what was regained in the meantime, and one read of the join.
    let allowed = PER_SECOND + PER_SECOND * (took.as_secs() + 1);
    ensure!(served <= allowed, "{served} pages in {took:?}, not {allowed}");
    ensure!(!times.is_empty(), "nobody was refused");
    // They get different retry times, so that they do not all return at once.
    times.sort_unstable();
    times.dedup();
    ensure!(times.len() > 20, "{times:?}");
    witness.was_served().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_conversations_cost_the_one_who_names_them_and_few_queries() -> Result<()> {
    const NAMES: usize = 1_000;
    let _turn = TURN.lock().await;
    let node = Node::builder().start().await?;
    let witness = Witness::of(&node).await;
    let mut ada = client(&node, &node.token("ada")).await;
    ada.command("create", json!({"conversation": "real"})).await?;
    let resume = json!({"session": ada.welcome()["session"], "ticket": ada.welcome()["ticket"]});
    ada.cut();
    let cursors: serde_json::Map<String, Value> = (0..NAMES - 1)
        .map(|n| (format!("invented{n}"), json!(0)))
        .chain([("real".into(), json!(0))])
        .collect();
    let before = reads(&node).await;
    let mut resume = resume;
    resume["cursors"] = cursors.into();
    let resumed = Client::resume(&node.ws_url(), &node.token("ada"), Encoding::Json, resume).await?;
    let welcome = resumed.welcome();
    assert_eq!(welcome["resumed"], true);
    assert_eq!(welcome["gone"].as_array().map(Vec::len), Some(NAMES - 1));
    assert!(welcome["conversations"]["real"].is_object(), "{welcome}");
    // The witness' sends are not reads; health checks and the beat read a few times a second.
    let asked = reads(&node).await - before;
    ensure!(asked < 60.0, "{asked} queries for {NAMES} names");
    witness.was_served().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mere_subscriptions_leave_nothing_in_redis() -> Result<()> {
    const SOCKETS: usize = 8;
    const TOPICS: usize = 100;
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(1).unlimited().start().await?;
    let mut floods = JoinSet::new();
    for n in 0..SOCKETS {
        let mut socket = client(cluster.node(0), &cluster.token("loud")).await;
        floods.spawn(async move {
            for topic in 0..TOPICS {
                let name = format!("new.{n}.{topic}");
                let at = socket.command("subscribe", json!({ "topic": name })).await?;
                ensure!(at["offset"] == 0, "{at}");
                socket.command("unsubscribe", json!({ "topic": name })).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(flood) = floods.join_next().await {
        flood??;
    }
    let redis = cluster.redis()?;
    let traces = async || {
        let mut traces = redis.cli(&["KEYS", "*new.*"]).await?.texts();
        for key in redis.cli(&["KEYS", "starling:v1:numbers:*"]).await?.texts() {
            let fields = redis.cli(&["HKEYS", &key]).await?.texts();
            traces.extend(fields.into_iter().filter(|field| field.contains("new.")));
        }
        anyhow::Ok(traces)
    };
    assert_eq!(traces().await?, [""; 0], "a topic that nobody published in has left something");
    // Control: a publication leaves something.
    let mut writer = client(cluster.node(0), &cluster.token("loud")).await;
    writer.command("publish", json!({"topic": "new.0.0", "data": 1})).await?;
    assert_eq!(traces().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_members_count_as_writes() -> Result<()> {
    const WRITES: usize = 10;
    let _turn = TURN.lock().await;
    let node =
        Node::builder().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", &WRITES.to_string()).start().await?;
    let mut ada = client(&node, &node.token("ada")).await;
    ada.command("create", json!({"conversation": "c"})).await?;
    let begun = Instant::now();
    let mut taken = 1;
    let mut refused = 0;
    for n in 0..4 * WRITES {
        let method = if n % 2 == 0 { "PUT" } else { "DELETE" };
        let url = format!("{}/v1/conversations/c/members/bob", node.http_url());
        let answer = Request::new(method, &url).bearer(&node.token("ada")).send().await?;
        match answer.status {
            200 | 204 => taken += 1,
            429 => refused += 1,
            404 => {}
            status => anyhow::bail!("{status}"),
        }
    }
    let came_back = begun.elapsed().as_secs() as usize * WRITES / 60 + 1;
    ensure!(taken <= WRITES + came_back && refused > 0, "{taken} changes, {refused} refused");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_survives_members_that_change_all_the_time() -> Result<()> {
    const ROUNDS: usize = 25;
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let admin = Token::of("root").scope("admin").sign(cluster.node(0).secret());
    let mut ada = client(cluster.node(0), &cluster.token("ada")).await;
    let (name, current) = tokio::sync::watch::channel(String::new());
    let mut changers = JoinSet::new();
    for changer in 0..4 {
        let (url, admin, current) = (cluster.node(0).http_url(), admin.clone(), current.clone());
        changers.spawn(async move {
            let mut changes = 0;
            loop {
                let name = current.borrow().clone();
                if name == "end" {
                    return anyhow::Ok(changes);
                }
                if name.is_empty() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let member = format!("{url}/v1/conversations/{name}/members/m{changer}");
                for method in ["PUT", "DELETE"] {
                    let answer = Request::new(method, &member).bearer(&admin).send().await?;
                    ensure!(matches!(answer.status, 200 | 204), "{}", answer.status);
                    changes += 1;
                }
            }
        });
    }
    let resume = json!({"session": ada.welcome()["session"], "ticket": ada.welcome()["ticket"]});
    let mut resume = resume;
    for round in 0..ROUNDS {
        // A different conversation each time, which the second node does not know yet.
        let conversation = format!("c{round}");
        ada.command("create", json!({ "conversation": conversation })).await?;
        name.send_replace(conversation.clone());
        tokio::time::sleep(Duration::from_millis(30)).await;
        resume["cursors"] = json!({ &conversation: 0 });
        let url = cluster.node(1).ws_url();
        let there = Client::resume(&url, &cluster.token("ada"), Encoding::Json, resume.clone()).await;
        let there = there.with_context(|| format!("round {round}"))?;
        assert!(there.welcome()["conversations"][&conversation].is_object(), "{}", there.welcome());
        there.cut();
        ada = client(cluster.node(0), &cluster.token("ada")).await;
        resume = json!({"session": ada.welcome()["session"], "ticket": ada.welcome()["ticket"]});
    }
    name.send_replace("end".into());
    let mut changes = 0;
    while let Some(changer) = changers.join_next().await {
        changes += changer??;
    }
    println!("{ROUNDS} resumes among {changes} changes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_added_at_once_on_all_nodes_stay_within_the_limit() -> Result<()> {
    const MEMBERS: usize = 10;
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2)
        .unlimited()
        .env("STARLING_LIMIT_CONVERSATION_MEMBERS", &MEMBERS.to_string())
        .start()
        .await?;
    let mut ada = client(cluster.node(0), &cluster.token("ada")).await;
    ada.command("create", json!({"conversation": "c"})).await?;
    let mut puts = JoinSet::new();
    for n in 0..60 {
        let url = format!("{}/v1/conversations/c/members/u{n}", cluster.node(n % 2).http_url());
        let token = cluster.token("ada");
        puts.spawn(async move { Request::new("PUT", &url).bearer(&token).send().await });
    }
    let mut added = 0;
    while let Some(put) = puts.join_next().await {
        match put??.status {
            200 => added += 1,
            413 => {}
            status => anyhow::bail!("{status}"),
        }
    }
    assert_eq!(added, MEMBERS - 1, "the owner is one");
    let shown = Request::new("GET", &format!("{}/v1/conversations/c", cluster.node(1).http_url()))
        .bearer(&cluster.token("ada"))
        .send()
        .await?
        .json()?;
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(MEMBERS));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_begun_at_once_on_all_nodes_stay_within_a_tenants_limit() -> Result<()> {
    const PLACES: usize = 20;
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2)
        .unlimited()
        .env("STARLING_LIMIT_TENANT_CONNECTIONS", &PLACES.to_string())
        .start()
        .await?;
    let mut comers = JoinSet::new();
    for n in 0..60 {
        let (url, token) = (cluster.node(n % 2).ws_url(), cluster.token(&format!("u{n}")));
        comers.spawn(async move { Client::connect(&url, &token, Encoding::Json).await });
    }
    let mut there = Vec::new();
    while let Some(comer) = comers.join_next().await {
        match comer? {
            Ok(client) => there.push(client),
            Err(failure) => ensure!(failure.code() == Some("rate_limited"), "{failure}"),
        }
    }
    assert_eq!(there.len(), PLACES);
    // Connections that close make room for others, on any node.
    for client in there.drain(..PLACES / 2) {
        client.cut();
    }
    for n in 0..PLACES / 2 {
        let (url, token) = (cluster.node(1).ws_url(), cluster.token(&format!("later{n}")));
        let come = async || Ok(Client::connect(&url, &token, Encoding::Json).await.ok());
        there.push(wait::until(SOON, "a free place", come).await?);
    }
    let full = Client::connect(&cluster.node(0).ws_url(), &cluster.token("one"), Encoding::Json).await;
    assert_eq!(
        full.err().and_then(|failure| failure.code().map(str::to_owned)).as_deref(),
        Some("rate_limited")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invented_ticket_goes_before_nobody() -> Result<()> {
    // A burst of 30 sessions; new clients get half of it.
    const HANDSHAKES: usize = 90;
    let _turn = TURN.lock().await;
    let node = Node::builder()
        .unlimited()
        .env("STARLING_LIMIT_HANDSHAKES_PER_SECOND", &HANDSHAKES.to_string())
        .start()
        .await?;
    let begun = Instant::now();
    let mut comers = JoinSet::new();
    for n in 0..45 {
        let (url, token) = (node.ws_url(), node.token(&format!("u{n}")));
        let resume = json!({"session": format!("invented{n}"), "ticket": "AAAA", "cursors": {}});
        comers.spawn(async move { Client::resume(&url, &token, Encoding::Json, resume).await });
    }
    let mut there = 0;
    while let Some(comer) = comers.join_next().await {
        there += usize::from(comer?.is_ok());
    }
    let newcomers = HANDSHAKES / 3 / 2 + HANDSHAKES / 3 * (begun.elapsed().as_secs() as usize + 1);
    println!("{there} of 45 got in, of {newcomers} places for newcomers");
    let limited = node.metric("starling_limited_total", "limit=\"node_sessions\"").await?;
    // On a machine so slow that all were accepted, there is nothing to check.
    ensure!(there <= newcomers && (limited > 0.0 || newcomers >= 45), "{there} of 45 got in");
    Ok(())
}

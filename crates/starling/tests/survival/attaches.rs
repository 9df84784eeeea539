//! Of several connections that attach one session, only the one that began last remains. A session that an operator ended stays ended.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::proxy::Link;
use starling_testkit::race::{Racer, Rounds};
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::TURN;

/// Timeout for everything.
const PATIENCE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn of_sockets_that_race_for_a_session_the_last_one_is_left_whatever_becomes_of_redis() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(3).unlimited().start().await?;
    let mut racers = Vec::new();
    for number in 0..4 {
        racers.push(Racer::enter(&cluster, &format!("racer-{number}")).await?);
    }
    let redis = cluster.redis()?;
    for fault in ["none", "wiped", "frozen", "killed", "none"] {
        match fault {
            "wiped" => redis.flushall().await?,
            "frozen" => redis.stop()?,
            "killed" => redis.kill().await?,
            _ => {}
        }
        let rounds = if fault == "none" { 10 } else { 1 };
        let race = async {
            for _ in 0..rounds {
                let round = futures_util::future::join_all(racers.iter_mut().map(Racer::round)).await;
                round
                    .into_iter()
                    .collect::<Result<Vec<Rounds>>>()
                    .with_context(|| format!("Redis {fault}"))?;
            }
            anyhow::Ok(())
        };
        let mend = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            match fault {
                "frozen" => redis.resume(),
                "killed" => redis.restart().await,
                _ => Ok(()),
            }
        };
        tokio::try_join!(race, mend)?;
    }
    Ok(())
}

/// Connects Ada to many conversations on the first node; also returns her `resume`.
async fn ada(cluster: &Cluster, conversations: usize) -> Result<(Client, Value)> {
    let mut ada = Client::connect(&cluster.node(0).ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    let mut cursors = serde_json::Map::new();
    for number in 0..conversations {
        let conversation = format!("c{number}");
        ada.command("create", json!({"conversation": conversation})).await?;
        ada.command("join", json!({"conversation": conversation})).await?;
        cursors.insert(conversation, json!(0));
    }
    let (session, ticket) = (ada.welcome()["session"].clone(), ada.welcome()["ticket"].clone());
    Ok((ada, json!({"session": session, "ticket": ticket, "cursors": cursors})))
}

/// Opens a connection and sends `connect` without waiting for the reply.
async fn begin(node: &Node, resume: &Value) -> Result<(Client, u64)> {
    let mut client = Upgrade::to(&node.ws_url()).encoding(Encoding::Json).open().await?;
    let fields = json!({"token": node.token("ada"), "resume": resume});
    let connect = client.submit("connect", fields).await?;
    Ok((client, connect))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_attach_does_not_win_over_one_that_began_later() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (older, resume) = ada(&cluster, 100).await?;
    // On a busy machine the first one may begin to attach after the last one, and then it is right that it stays.
    let mut last_ones_left = 0;
    for _ in 0..20 {
        // The second node must load her conversations; the first has them.
        let (mut slow, slow_connect) = begin(cluster.node(1), &resume).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let (mut quick, connect) = begin(cluster.node(0), &resume).await?;
        // The one that is replaced may have been attached for a moment or not at all.
        let (closed, left, left_connect, is_last) = tokio::select! {
            closed = slow.closed(PATIENCE) => (closed?, &mut quick, connect, true),
            closed = quick.closed(PATIENCE) => (closed?, &mut slow, slow_connect, false),
        };
        ensure!(closed.code == Some(4409), "{closed:?}");
        ensure!(left.reply(left_connect).await?["resumed"] == true, "the one that is left is not resumed");
        left.command("ping", json!({})).await?;
        last_ones_left += u32::from(is_last);
        if last_ones_left == 5 {
            break;
        }
    }
    ensure!(last_ones_left == 5, "the last one was left {last_ones_left} times");
    drop(older);
    Ok(())
}

/// Her only session, as an operator sees it.
async fn listed(node: &Node) -> Result<Value> {
    let admin = Token::of("admin").scope("admin").sign(node.secret());
    let url = format!("{}/v1/sessions?user=ada", node.http_url());
    Ok(Request::new("GET", &url).bearer(&admin).send().await?.json()?["sessions"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_breaks_while_it_attaches_leaves_the_session_to_the_older_one() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (mut older, mut resume) = ada(&cluster, 3).await?;
    let (session, node) = (resume["session"].clone(), older.welcome()["node"].clone());
    for number in 0..1_000 {
        resume["cursors"][format!("invented-{number}")] = json!(1);
    }
    // The database is cut off, so the second node cannot load anything until the test allows it.
    cluster.postgres()?.stop().await?;
    let (breaking, _) = begin(cluster.node(1), &resume).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    breaking.cut();
    cluster.postgres()?.start_again().await?;
    let there = async || {
        let sessions = listed(cluster.node(1)).await?;
        Ok(sessions
            == json!([{"session": session, "user": "ada", "node": node, "attached": true,
            "created_at": sessions[0]["created_at"]}]))
    };
    wait::until_true(PATIENCE, "the session to be listed where it is", there).await?;
    older.command("send", json!({"conversation": "c0", "key": "k", "content": "still here"})).await?;
    older.wait_for_event("message").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(there().await?, "it is listed otherwise later");
    let watch = older.command("presence", json!({"conversation": "c0"})).await?;
    ensure!(watch["users"][0]["online"] == true, "{watch}");
    Ok(())
}

/// An operator ends a session.
async fn end(node: &Node, session: &Value) -> Result<u16> {
    let admin = Token::of("admin").scope("admin").sign(node.secret());
    let url = format!("{}/v1/sessions/{}", node.http_url(), session.as_str().context("a session")?);
    Ok(Request::new("DELETE", &url).bearer(&admin).send().await?.status)
}

/// Whether a ticket still resumes its session.
async fn resumes(node: &Node, resume: &Value) -> Result<bool> {
    let (url, token) = (node.ws_url(), node.token("ada"));
    wait::until(PATIENCE, "an answer to the resume", async || {
        match Client::resume(&url, &token, Encoding::Json, resume.clone()).await {
            Ok(client) => Ok(Some(client.welcome()["resumed"] == true)),
            Err(Failure::Refused(reply)) if reply.code == "unavailable" => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    })
    .await
}

/// Redis and the other node never hear of the session: only its client and its own node know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_its_node_could_not_write_is_resumed_on_another_node() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(1).unlimited().start().await?;
    let mut link = Link::to(cluster.redis()?.address()).await?;
    let apart = Node::builder()
        .name("apart")
        .secret(cluster.node(0).secret())
        .redis(&link.through(cluster.redis_url()))
        .database(cluster.database_url())
        .unlimited()
        .start()
        .await?;
    link.refuse().await;
    link.cut();
    wait::until_true(PATIENCE, "the node to be cut off", async || Ok(link.connections() == 0)).await?;
    let mut client = Client::connect(&apart.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    client.command("create", json!({"conversation": "c"})).await?;
    client.command("join", json!({"conversation": "c"})).await?;
    let (session, ticket) = (&client.welcome()["session"], &client.welcome()["ticket"]);
    let resume = json!({"session": session, "ticket": ticket, "cursors": {"c": 0}});
    ensure!(listed(cluster.node(0)).await? == json!([]), "Redis has the session");
    ensure!(resumes(cluster.node(0), &resume).await?, "the other node begins a new session");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_stays_ended_whatever_becomes_of_redis() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (mut ada, resume) = ada(&cluster, 2).await?;
    ensure!(end(cluster.node(1), &resume["session"]).await? == 204);
    let closed = ada.closed(PATIENCE).await?;
    ensure!(closed.code == Some(4410), "{closed:?}");
    ensure!(end(cluster.node(0), &resume["session"]).await? == 204, "once more does no harm");
    let redis = cluster.redis()?;
    for node in cluster.nodes() {
        ensure!(!resumes(node, &resume).await?, "{} resumes it", node.name());
    }
    redis.flushall().await?;
    for node in cluster.nodes() {
        ensure!(!resumes(node, &resume).await?, "{} resumes it after FLUSHALL", node.name());
    }
    redis.kill().await?;
    for node in cluster.nodes() {
        ensure!(!resumes(node, &resume).await?, "{} resumes it without Redis", node.name());
    }
    redis.restart().await?;
    // The same holds for a node that was not running at that time, with Redis empty or down.
    cluster.node(1).kill().await?;
    cluster.node(1).start_again().await?;
    for node in cluster.nodes() {
        ensure!(!resumes(node, &resume).await?, "{} resumes it with an empty Redis", node.name());
    }
    redis.kill().await?;
    ensure!(!resumes(cluster.node(1), &resume).await?, "a new node resumes it without Redis");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_could_not_be_ended_goes_on() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (mut client, resume) = ada(&cluster, 1).await?;
    cluster.postgres()?.stop().await?;
    ensure!(end(cluster.node(1), &resume["session"]).await? == 503, "it was ended without the database");
    client.command("ping", json!({})).await?;
    let sessions = listed(cluster.node(1)).await?;
    ensure!(sessions[0]["session"] == resume["session"] && sessions[0]["attached"] == true, "{sessions}");
    cluster.postgres()?.start_again().await?;
    client.cut();
    ensure!(resumes(cluster.node(1), &resume).await?, "it is refused");
    ensure!(end(cluster.node(0), &resume["session"]).await? == 204);
    ensure!(!resumes(cluster.node(1), &resume).await?, "it is resumed although it was ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_stays_ended_after_a_restart_of_a_node_that_is_alone() -> Result<()> {
    let _turn = TURN.lock().await;
    let node = Node::start().await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    let resume =
        json!({"session": ada.welcome()["session"], "ticket": ada.welcome()["ticket"], "cursors": {}});
    let mut bob = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    let other =
        json!({"session": bob.welcome()["session"], "ticket": bob.welcome()["ticket"], "cursors": {}});
    ensure!(end(&node, &resume["session"]).await? == 204);
    ensure!(ada.closed(PATIENCE).await?.code == Some(4410));
    bob.command("ping", json!({})).await?;
    node.kill().await?;
    node.start_again().await?;
    ensure!(!resumes(&node, &resume).await?, "the ticket of the ended session is good again");
    ensure!(resumes(&node, &other).await?, "another ticket is not");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_closes_a_socket_that_is_just_attaching() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    for round in 0..10 {
        let (mut older, resume) = ada_anew(&cluster, round).await?;
        let (mut attaching, connect) = begin(cluster.node(1), &resume).await?;
        tokio::time::sleep(Duration::from_millis(round % 5)).await;
        ensure!(end(cluster.node(0), &resume["session"]).await? == 204);
        let ended = Instant::now();
        let closed = older.closed(PATIENCE).await?;
        // If it attached before the end, the newer connection replaced the older one.
        ensure!(matches!(closed.code, Some(4409 | 4410)), "{closed:?}");
        match attaching.reply(connect).await {
            // It attached either after the end, with another session, or before it.
            Ok(welcome) if welcome["resumed"] == false => {}
            Ok(welcome) => {
                ensure!(welcome["resumed"] == true, "{welcome}");
                let closed = attaching.closed(PATIENCE).await?;
                ensure!(closed.code == Some(4410), "{closed:?}, {:?} after the end", ended.elapsed());
            }
            Err(failure) => ensure!(failure.close_code() == Some(4410), "{failure}"),
        }
        ensure!(!resumes(cluster.node(1), &resume).await?, "it is resumed afterwards");
    }
    Ok(())
}

/// Connects Ada with a new session, in the conversations of one round.
async fn ada_anew(cluster: &Cluster, round: u64) -> Result<(Client, Value)> {
    let mut ada = Client::connect(&cluster.node(0).ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    let mut cursors = serde_json::Map::new();
    for number in 0..20 {
        let conversation = format!("r{round}-c{number}");
        ada.command("create", json!({"conversation": conversation})).await?;
        cursors.insert(conversation, json!(0));
    }
    let (session, ticket) = (ada.welcome()["session"].clone(), ada.welcome()["ticket"].clone());
    Ok((ada, json!({"session": session, "ticket": ticket, "cursors": cursors})))
}

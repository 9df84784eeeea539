//! Balancing never closes connections, only counts sessions, and moves nobody if the load is unknown.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure, Upgrade};
use starling_testkit::node::{Cluster, ClusterBuilder, Node};
use starling_testkit::wait::until_true;

/// Number of unauthenticated connections on one node.
const STRANGERS: usize = 2_000;
/// `shed_above_sessions` in these tests.
const ABOVE: &str = "20";
/// `shed_every_seconds` in these tests. Three comparisons take longer than clients are given to move, 10 s.
const EVERY: &str = "4";
/// Timeout for a few comparisons.
const LOOKS: Duration = Duration::from_secs(240);
/// Timeout for one comparison and its consequences.
const SOON: Duration = Duration::from_secs(60);

/// Nodes that send no pings and wait for `connect` during the whole test, so that connections stay half open and silent.
fn nodes(count: usize) -> ClusterBuilder {
    Cluster::builder(count)
        .unlimited()
        .env("STARLING_SHED_ABOVE_SESSIONS", ABOVE)
        .env("STARLING_SHED_EVERY_SECONDS", EVERY)
        .env("STARLING_CONNECT_TIMEOUT_SECONDS", "3600")
        .env("STARLING_HEARTBEAT_SECONDS", "3600")
        .env("STARLING_DRAIN_SECONDS", "10")
}

async fn connect(node: &Node, cluster: &Cluster, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for n in 0..count {
        let token = cluster.token(&format!("u{n}"));
        clients.push(Client::connect(&node.ws_url(), &token, Encoding::Json).await?);
    }
    Ok(clients)
}

/// Returns how often the node's comparison had this result.
async fn looks(node: &Node, result: &str) -> Result<f64> {
    node.metric("starling_balance_looks_total", &format!("result=\"{result}\"")).await
}

/// Waits until the node's comparison has had this result `more` further times.
async fn wait_for_looks(node: &Node, result: &str, more: f64) -> Result<()> {
    let before = looks(node, result).await?;
    let enough = async || Ok(looks(node, result).await? >= before + more);
    until_true(LOOKS, &format!("{more} looks with the result {result}"), enough).await
}

async fn moved(node: &Node) -> Result<f64> {
    node.metric("starling_moved_connections_total", "").await
}

/// Returns how many of these clients got `draining`, and how many were closed.
async fn fate(clients: &mut [Client]) -> Result<(usize, usize)> {
    let (mut told, mut closed) = (0, 0);
    for client in clients {
        match client.command("ping", Value::Null).await {
            Ok(_) => {}
            Err(Failure::Closed(_)) => closed += 1,
            Err(failure) => return Err(failure.into()),
        }
        let events = client.drain_events(Duration::from_millis(1)).await.unwrap_or_default();
        told += usize::from(events.iter().any(|event| event["ev"] == "draining"));
    }
    Ok((told, closed))
}

async fn nobody_was_moved(clients: &mut [Client]) -> Result<()> {
    let (told, closed) = fate(clients).await?;
    ensure!(told == 0, "{told} of {} clients were told to move", clients.len());
    ensure!(closed == 0, "{closed} of {} clients were closed", clients.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_sockets_move_nobody_and_clients_that_ignore_draining_stay() -> Result<()> {
    let (_, hard) = rlimit::Resource::NOFILE.get()?;
    rlimit::Resource::NOFILE.set(hard, hard)?;
    let cluster = nodes(2).start().await?;
    let node = cluster.node(0);
    let mut clients = connect(node, &cluster, 10).await?;
    let mut strangers = Vec::with_capacity(STRANGERS);
    while strangers.len() < STRANGERS {
        let url = node.ws_url();
        let open = async || Upgrade::to(&url).open().await;
        strangers.extend(try_join_all((0..50).map(|_| open())).await?);
    }
    wait_for_looks(node, "balanced", 2.0).await?;
    nobody_was_moved(&mut clients).await?;
    ensure!(moved(node).await? == 0.0 && looks(node, "asked").await? == 0.0, "somebody was asked");

    // Control: if these connections were counted, clients would be asked to move. Now they become sessions.
    for (n, stranger) in strangers.iter_mut().enumerate() {
        let token = cluster.token(&format!("s{n}"));
        stranger.hello(json!({ "token": token })).await?;
    }
    clients.append(&mut strangers);
    wait_for_looks(node, "asked", 1.0).await?;
    // Each shard asks its share of the clients separately.
    until_true(SOON, "clients to be asked", async || Ok(moved(node).await? > 400.0)).await?;
    let seen = nobody_was_moved(&mut clients).await;
    ensure!(seen.is_err_and(|error| error.to_string().contains("told")), "nobody was told");

    // No client moves. They stay for longer than any delay, and the node stops asking.
    wait_for_looks(node, "paused", 3.0).await?;
    let (told, closed) = fate(&mut clients).await?;
    ensure!(closed == 0, "{closed} clients were closed since they had not moved");
    ensure!(told < clients.len() / 2, "{told} more were told, in vain");

    // Control: a drain closes them, and the test notices.
    node.begin_termination()?;
    let status = node.ended(SOON).await?;
    ensure!(status.success(), "{status}\n{}", node.log());
    let (_, closed) = fate(&mut clients).await?;
    ensure!(closed == clients.len(), "only {closed} were seen to be closed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_nodes_count_for_nothing_and_a_client_that_comes_back_is_not_asked_again() -> Result<()> {
    let mut cluster = nodes(3).start().await?;
    // Redis dies, and two of three nodes with it: the last one has all clients, and knows nothing about the others.
    cluster.redis()?.kill().await?;
    for _ in 0..2 {
        cluster.remove_node(1).kill().await?;
    }
    let mut clients = connect(cluster.node(0), &cluster, 120).await?;
    wait_for_looks(cluster.node(0), "unsure", 3.0).await?;
    nobody_was_moved(&mut clients).await?;
    cluster.redis()?.restart().await?;
    wait_for_looks(cluster.node(0), "balanced", 2.0).await?;
    nobody_was_moved(&mut clients).await?;

    // Control: a new node is empty, and clients are asked to move.
    cluster.add_node().await?;
    let node = cluster.node(0);
    wait_for_looks(node, "asked", 1.0).await?;
    until_true(SOON, "clients to be asked", async || Ok(moved(node).await? >= 30.0)).await?;
    // A sticky load balancer sends them back.
    let (mut back, mut stayed) = (Vec::new(), Vec::new());
    for mut client in clients {
        client.command("ping", Value::Null).await?;
        let events = client.drain_events(Duration::from_millis(1)).await?;
        if events.iter().all(|event| event["ev"] != "draining") {
            stayed.push(client);
            continue;
        }
        let (session, ticket) = (&client.welcome()["session"], &client.welcome()["ticket"]);
        let resume = json!({"session": session, "ticket": ticket, "cursors": {}});
        let user = client.welcome()["user"].as_str().context("a user")?;
        let again = Client::resume(&node.ws_url(), &cluster.token(user), Encoding::Json, resume).await?;
        ensure!(again.welcome()["resumed"] == true, "{}", again.welcome());
        back.push(again);
    }
    ensure!((30..=60).contains(&back.len()), "{} were told", back.len());
    let asked = moved(node).await?;
    wait_for_looks(node, "paused", 2.0).await?;
    nobody_was_moved(&mut back).await?;
    ensure!(moved(node).await? == asked, "somebody was asked again");
    ensure!(moved(cluster.node(1)).await? == 0.0, "the new node asked somebody");
    nobody_was_moved(&mut stayed).await
}

//! No node is ready, but all work: running connections stay, and new clients still get in.
//!
//! Both nodes behind the load balancers have lost Redis while a third node, elsewhere, has not. So both say `deaf` and are not ready, but
//! serve from the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, RecordingClient, Upgrade};
use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;

use super::SOON;
use super::balancer::{self, Balancer, refused};
use super::file::ConfigFile;
use super::kind::Kind;

/// Between two looks of a running client at whether it is over.
const LOOK: Duration = Duration::from_millis(100);
/// As many refusals in a row show that a load balancer has noticed that no node is ready.
const REFUSALS: u32 = 3;

/// Removes what makes a load balancer use nodes that are not ready. nginx does not ask whether they are.
fn without_fallback(file: &mut ConfigFile) -> Result<()> {
    match file.name() {
        "haproxy.cfg" => file.replace("use_backend any_node", "# use_backend any_node"),
        "envoy.yaml" => {
            file.replace("healthy_panic_threshold: { value: 1 }", "healthy_panic_threshold: { value: 0 }")
        }
        "traefik-nodes.yaml" => file.replace("      service: starling\n", "      service: ready-nodes\n"),
        "Caddyfile" => file.replace("handle_errors 502 503 {", "handle_errors 599 {"),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_node_is_ready_connections_stay_and_new_clients_still_get_in() -> Result<()> {
    let (redis, database) = tokio::try_join!(Redis::start(), Postgres::start())?;
    let link = Link::to(redis.address()).await?;
    let start = |redis: String| Node::builder().unlimited().redis(&redis).database(&database.url()).start();
    let through = link.through(&redis.url());
    let (one, two, elsewhere) = tokio::try_join!(start(through.clone()), start(through), start(redis.url()))?;
    let balancers = balancer::all([&one, &two]).await?;
    let asking = [Kind::HaProxy, Kind::Envoy, Kind::Traefik, Kind::Caddy];
    let controls = balancer::all_edited(&asking, [&one, &two], &without_fallback).await?;

    let over = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for balancer in &balancers {
        let token = one.token(balancer.name());
        let mut user = RecordingClient::connect(&balancer.ws_url(), &token, Encoding::Json).await?;
        user.command("create", json!({"conversation": balancer.name(), "members": ["newcomer"]})).await?;
        user.join(balancer.name()).await?;
        running.push(tokio::spawn(stay(user, Arc::clone(&over))));
    }

    link.pause();
    for node in [&one, &two] {
        let is_unready = async || Ok(node.get("/ready").await?.status == 503);
        until_true(SOON, "a node not to be ready", is_unready).await?;
    }
    for control in &controls {
        notices(control).await.with_context(|| format!("{} without its fallback", control.name()))?;
    }
    let newcomers = balancers.iter().map(|balancer| come_in_and_speak(balancer, &one));
    futures_util::future::try_join_all(newcomers).await?;
    for node in [&one, &two] {
        let readiness = node.get("/ready").await?;
        let said: Value = readiness.json()?;
        ensure!(readiness.status == 503, "a node was ready meanwhile: {said}");
    }

    link.resume();
    for node in [&one, &two, &elsewhere] {
        node.ready().await?;
    }
    over.store(true, Ordering::SeqCst);
    for (balancer, user) in balancers.iter().zip(running) {
        let name = balancer.name();
        let mut user = user.await?.with_context(|| format!("{name}: a running connection"))?;
        user.listen_until(name, 1, SOON).await.with_context(|| format!("{name}: the message"))?;
    }
    for control in &controls {
        let opens = async || Ok(Upgrade::to(&control.ws_url()).open().await.is_ok());
        until_true(SOON, "the control to let clients in again", opens).await.context(control.name())?;
    }
    Ok(())
}

/// Waits until a load balancer lets nobody in.
async fn notices(control: &Balancer) -> Result<()> {
    let mut refusals = 0;
    let refuses = async || {
        let failure = Upgrade::to(&control.ws_url()).open().await.err();
        let status = failure.as_ref().and_then(refused);
        refusals = if matches!(status, Some(502..=504)) { refusals + 1 } else { 0 };
        Ok(refusals == REFUSALS)
    };
    until_true(SOON, "clients to be refused", refuses).await
}

/// Listens until the end. Fails if the connection ends before.
async fn stay(mut user: RecordingClient, over: Arc<AtomicBool>) -> Result<RecordingClient> {
    while !over.load(Ordering::SeqCst) {
        user.listen(LOOK).await?;
    }
    Ok(user)
}

async fn come_in_and_speak(balancer: &Balancer, node: &Node) -> Result<()> {
    let name = balancer.name();
    let newcomer = Client::connect(&balancer.ws_url(), &node.token("newcomer"), Encoding::Json).await;
    let mut newcomer = newcomer.with_context(|| format!("{name}: a new client"))?;
    newcomer.set_patience(SOON);
    let said = json!({"conversation": name, "key": "k", "content": "let in"});
    newcomer.command("send", said).await.with_context(|| format!("{name}: a new client sends"))?;
    Ok(())
}

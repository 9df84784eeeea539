//! What keeps working while the database is down.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Cluster;
use starling_testkit::wait::until_true;

use crate::TURN;
use crate::talk::say;

/// Generous timeout, for busy machines.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_joins_typing_presence_and_topics_need_no_database() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let connect = async |node: usize, user: &str| {
        let url = cluster.node(node).ws_url();
        Client::connect(&url, &cluster.token(user), Encoding::Json).await
    };
    let (mut ada, mut bob) = (connect(0, "ada").await?, connect(1, "bob").await?);
    ada.command("create", json!({"conversation": "c", "members": ["bob", "cy"]})).await?;
    for client in [&mut ada, &mut bob] {
        client.command("join", json!({"conversation": "c"})).await?;
    }
    ada.wait_for(|event| event["ev"] == "presence" && event["user"] == "bob").await?;

    cluster.postgres()?.stop().await?;
    let refused = say(&mut ada, "c", "is it there?").await.err().context("a send without a database")?;
    ensure!(refused.to_string().contains("unavailable"), "{refused:#}");

    // A user who was never online is listed without a time.
    let list = ada.command("presence", json!({"conversation": "c"})).await?;
    let expected = json!([
        {"user": "ada", "online": true, "devices": 1},
        {"user": "bob", "online": true, "devices": 1},
        {"user": "cy", "online": false, "devices": 0},
    ]);
    ensure!(list["users"] == expected, "{list}");

    // The node knows this conversation, because Ada has joined it.
    let mut cy = connect(0, "cy").await?;
    let joined = cy.command("join", json!({"conversation": "c"})).await?;
    ensure!(joined["online"].as_array().is_some_and(|online| online.len() == 3), "{joined}");
    bob.wait_for(|event| event["ev"] == "presence" && event["user"] == "cy" && event["online"] == true)
        .await?;
    cy.command("typing", json!({"conversation": "c", "typing": true})).await?;
    bob.wait_for(|event| event["ev"] == "typing" && event["user"] == "cy" && event["typing"] == true).await?;

    bob.command("subscribe", json!({"topic": "news"})).await?;
    cy.command("publish", json!({"topic": "news", "data": "we go on"})).await?;
    let publication = bob.wait_for_event("publication").await?;
    ensure!(publication["data"] == "we go on", "{publication}");
    // The node itself knows that this was a moment ago.
    cy.command("leave", json!({"conversation": "c"})).await?;
    bob.wait_for(|event| event["ev"] == "presence" && event["user"] == "cy" && event["online"] == false)
        .await?;
    let list = ada.command("presence", json!({"conversation": "c"})).await?;
    ensure!(list["users"][2]["online"] == false && list["users"][2]["last_seen"].is_string(), "{list}");

    cluster.postgres()?.start_again().await?;
    let again = async || Ok(say(&mut ada, "c", "is it back?").await.is_ok());
    until_true(SOON, "sends to be taken again", again).await?;
    bob.wait_for(|event| event["ev"] == "message" && event["content"] == "is it back?").await.map(drop)?;
    Ok(())
}

/// The default log says why sends fail, without flooding the operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_once_that_the_database_is_away_and_once_that_it_is_back() -> Result<()> {
    const AWAY: &str = "PostgreSQL does not answer";
    const BACK: &str = "PostgreSQL answers again";
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(1).unlimited().start().await?;
    let node = cluster.node(0);
    let said = |text: &str| node.log().lines().filter(|line| line.contains(text)).count();
    let mut ada = Client::connect(&node.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c"})).await?;
    ensure!(said(AWAY) == 0, "{}", node.log());

    cluster.postgres()?.stop().await?;
    for _ in 0..100 {
        ensure!(say(&mut ada, "c", "is it there?").await.is_err(), "a send without a database");
    }
    until_true(SOON, "the log to say that the database is away", async || Ok(said(AWAY) > 0)).await?;
    let line = node.log().lines().find(|line| line.contains(AWAY)).unwrap_or_default().to_owned();
    ensure!(line.contains("WARN") && line.contains("primary"), "{line}");
    ensure!(said(BACK) == 0, "{}", node.log());

    // The node checks by itself; no client needs to send anything.
    cluster.postgres()?.start_again().await?;
    until_true(SOON, "the log to say that the database is back", async || Ok(said(BACK) > 0)).await?;
    // Twice if the machine was so slow that the database seemed to be down again.
    ensure!(said(AWAY) <= 2 && said(BACK) <= 2, "{}", node.log());
    Ok(())
}

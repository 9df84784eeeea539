//! The log: JSON by default, readable lines on request, and never a secret in it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Upgrade};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node, NodeBuilder};
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::SOON;

/// How long a drain may take, seconds.
const DRAIN: &str = "STARLING_DRAIN_SECONDS";

#[tokio::test]
async fn every_line_is_json_where_there_is_no_terminal() -> Result<()> {
    let node = brief().env("RUST_LOG", "debug").start().await?;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "tea"})).await?;
    let log = log_of_a_whole_life(&node).await?;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect::<Result<_>>()?;
    for line in &lines {
        let text = |field: &str| line[field].as_str().filter(|text| !text.is_empty());
        let time = text("timestamp").with_context(|| format!("no time: {line}"))?;
        // RFC 3339 in UTC.
        ensure!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{line}");
        ensure!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&text("level").unwrap_or_default()), "{line}");
        ensure!(text("message").is_some() && text("target").is_some(), "{line}");
        ensure!(line["node"] == node.name(), "{line}");
    }
    for message in ["serving", "draining; send the signal again to stop at once", "drained"] {
        ensure!(lines.iter().any(|line| line["message"] == message), "nothing says {message}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn lines_are_for_people_where_that_is_asked_for() -> Result<()> {
    for node in [brief().env("STARLING_LOG_FORMAT", "human"), brief().arg("--log-format").arg("human")] {
        let node = node.start().await?;
        let log = log_of_a_whole_life(&node).await?;
        let serving = log.lines().find(|line| line.contains("serving")).context("nothing says serving")?;
        ensure!(serving.contains(" INFO ") && serving.contains(&node.address().to_string()), "{serving}");
        for line in log.lines() {
            ensure!(serde_json::from_str::<Value>(line).is_err(), "JSON for people: {line}");
            ensure!(!line.contains('\u{1b}'), "colours where there is no terminal: {line:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_level_decides_what_is_logged() -> Result<()> {
    let quiet = "warn";
    let nothing_below_warn = |log: &str| !["\"INFO\"", "\"DEBUG\""].iter().any(|level| log.contains(level));
    for node in [
        brief().env("RUST_LOG", quiet),
        brief().env("STARLING_LOG", quiet),
        brief().arg("--log").arg(quiet),
        brief().arg("--config").arg("starling.toml").file("starling.toml", "log = \"warn\"\n"),
    ] {
        let log = log_of(node).await?;
        ensure!(nothing_below_warn(&log), "{log}");
    }
    let log = log_of(brief()).await?;
    ensure!(log.contains("\"INFO\"") && !log.contains("\"DEBUG\""), "{log}");
    let log = log_of(brief().env("RUST_LOG", "warn,starling_gateway=info")).await?;
    ensure!(log.contains("drained") && !log.contains("serving"), "not by module: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_ticket_secret_or_text_is_logged() -> Result<()> {
    let cluster = Cluster::builder(2).unlimited().env("RUST_LOG", "debug").env(DRAIN, "1").start().await?;
    let (first, second) = (cluster.node(0), cluster.node(1));
    let token = cluster.token("ada");
    let text = "a word in confidence";
    let mut ada = Upgrade::to(&first.ws_url()).bearer(&token).open().await?;
    ada.hello(json!({})).await?;
    let (session, ticket) = (ada.welcome()["session"].clone(), ada.welcome()["ticket"].clone());
    ada.command("create", json!({"conversation": "tea"})).await?;
    let message = json!({"conversation": "tea", "key": "k", "content": text, "metadata": {"about": text}});
    ada.command("send", message).await?;
    let renewed = Token::of("ada").claim("nbf", 1).sign(first.secret());
    ada.command("refresh", json!({"token": renewed})).await?;
    ada.cut();

    let forged = Token::of("ada").sign("somebody else's secret, of thirty-two bytes");
    let expired = Token::of("ada").expired_for(SOON).sign(first.secret());
    for refused in [&forged, &expired] {
        ensure!(Client::connect(&first.ws_url(), refused, Encoding::Json).await.is_err());
        ensure!(Upgrade::to(&first.ws_url()).bearer(refused).open().await.is_err());
        let list = Request::new("GET", &format!("{}/v1/conversations", first.http_url()));
        ensure!(list.bearer(refused).send().await?.status == 401);
    }
    let resume = json!({"session": session, "ticket": ticket, "cursors": {"tea": 0}});
    let ada = Client::resume(&second.ws_url(), &token, Encoding::Json, resume).await?;
    ensure!(ada.welcome()["resumed"] == true, "{}", ada.welcome());
    let newer = ada.welcome()["ticket"].as_str().context("a ticket")?.to_owned();
    let foreign = json!({"session": session, "ticket": format!("{newer}x"), "cursors": {}});
    let stranger = Client::resume(&second.ws_url(), &token, Encoding::Json, foreign).await?;
    ensure!(stranger.welcome()["resumed"] == false, "{}", stranger.welcome());

    let ticket = ticket.as_str().context("a ticket")?;
    for node in cluster.nodes() {
        let log = log_of_a_whole_life(node).await?;
        ensure!(log.contains("serving"), "not the whole log: {log}");
        for secret in [&token, &renewed, &forged, &expired, ticket, &newer, first.secret(), text] {
            ensure!(!log.contains(secret), "{secret} in the log of {}:\n{log}", node.name());
            // Not even the signature of a token.
            let end = secret.rsplit('.').next().unwrap_or(secret);
            ensure!(!log.contains(end), "the end of {secret} in the log of {}:\n{log}", node.name());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_log_the_death_of_a_node_and_an_outage_of_redis_each_once() -> Result<()> {
    let cluster = Cluster::builder(2).env(DRAIN, "1").start().await?;
    let (first, second) = (cluster.node(0), cluster.node(1));
    let logged = async |text: &str| until_true(SOON, text, async || Ok(first.log().contains(text))).await;
    second.kill().await?;
    logged("a node has died without a drain").await?;
    second.start_again().await?;
    // The node's first start may have logged such a line, too.
    until_true(SOON, "its return", async || {
        let log = first.log();
        let since_its_death = log.rsplit("a node has died without a drain").next().unwrap_or_default();
        Ok(since_its_death.contains("a node has joined the cluster"))
    })
    .await?;
    second.terminate(SOON).await?;
    logged("a node has left the cluster").await?;
    let log = first.log();
    for (message, level) in [
        ("a node has died without a drain", "WARN"),
        ("a node has joined the cluster", "INFO"),
        ("a node has left the cluster", "INFO"),
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(message)).collect();
        ensure!(lines.iter().any(|line| line.contains(second.name()) && line.contains(level)), "{lines:?}");
    }

    cluster.redis()?.kill().await?;
    until_true(SOON, "the outage", async || Ok(first.log().contains("the link to Redis is down"))).await?;
    cluster.redis()?.restart().await?;
    until_true(SOON * 2, "the end of the outage", async || {
        Ok(first.log().contains("the link to Redis is up again"))
    })
    .await?;
    let log = log_of_a_whole_life(first).await?;
    ensure!(!log.contains("\"fred"), "lines of the Redis client: {log}");
    ensure!(!log.contains("log.file"), "paths of a build: {log}");
    for line in log.lines() {
        if let Some(key) = key_that_stands_twice(line)? {
            anyhow::bail!("{key} stands twice: {line}");
        }
    }
    Ok(())
}

/// Returns the first key that appears twice in a JSON object.
fn key_that_stands_twice(line: &str) -> Result<Option<String>> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;
                fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    out.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    let Keys(mut keys) = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    keys.sort();
    Ok(keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()))
}

/// Builds a node that waits for nobody when it ends.
fn brief() -> NodeBuilder {
    Node::builder().env(DRAIN, "1")
}

/// Returns what such a node logs from its start to its end.
async fn log_of(node: NodeBuilder) -> Result<String> {
    log_of_a_whole_life(&node.start().await?).await
}

/// Ends the node with a clean drain.
async fn log_of_a_whole_life(node: &Node) -> Result<String> {
    let status = node.terminate(SOON * 2).await?;
    ensure!(status.success(), "{status}: {}", node.log());
    // The last lines may still be in the pipe.
    let mut length = 0;
    until_true(SOON, "the end of the log", async || {
        let before = std::mem::replace(&mut length, node.log().len());
        Ok(before == length)
    })
    .await?;
    Ok(node.log())
}

//! Presence when a node dies with all its connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Cluster;
use starling_testkit::wait::until_true;

use crate::TURN;

/// Time within which others learn that users of a killed node are offline.
const TOLD: Duration = Duration::from_secs(15);
/// How long the test watches after the kill, to catch events that are late or wrong.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_who_comes_back_never_left_and_who_does_not_is_offline_within_15_seconds() -> Result<()>
{
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (killed, survivor) = (cluster.node(0), cluster.node(1));
    let connect =
        async |node: &str, user: &str, encoding| Client::connect(node, &cluster.token(user), encoding).await;
    let mut ada = connect(&survivor.ws_url(), "ada", Encoding::Json).await?;
    let mut dan = connect(&survivor.ws_url(), "dan", Encoding::MessagePack).await?;
    ada.command("create", json!({"conversation": "c", "members": ["bob", "cy", "dan"]})).await?;
    let mut bob = connect(&killed.ws_url(), "bob", Encoding::Json).await?;
    let mut cy = connect(&killed.ws_url(), "cy", Encoding::Json).await?;
    for client in [&mut ada, &mut dan, &mut bob, &mut cy] {
        client.command("join", json!({"conversation": "c"})).await?;
    }
    for watcher in [&mut ada, &mut dan] {
        for user in ["bob", "cy"] {
            watcher.wait_for(|event| is_presence(event, user) && event["online"] == true).await?;
        }
    }
    // Ada was online when Dan joined.
    ada.wait_for(|event| is_presence(event, "dan")).await?;

    let mut resume = json!({"cursors": {"c": 0}});
    for field in ["session", "ticket"] {
        resume[field] = bob.welcome()[field].clone();
    }
    let since = Instant::now();
    killed.kill().await?;
    let bob =
        Client::resume(&survivor.ws_url(), &cluster.token("bob"), Encoding::MessagePack, resume).await?;
    ensure!(bob.welcome()["resumed"] == true, "Bob's session was lost: {}", bob.welcome());
    let (to_ada, to_dan) = tokio::try_join!(watch(&mut ada, since), watch(&mut dan, since))?;
    for (watcher, shown) in [(&mut ada, to_ada), (&mut dan, to_dan)] {
        let [(after, event)] = shown.as_slice() else {
            anyhow::bail!("not one change alone was shown: {shown:?}\n{}", survivor.log());
        };
        ensure!(is_presence(event, "cy") && event["online"] == false, "{event}");
        ensure!(event["last_seen"].is_string(), "{event}");
        ensure!(*after <= TOLD, "told after {after:?}");
        let list = watcher.command("presence", json!({"conversation": "c"})).await?;
        for (user, devices) in [("ada", 1), ("bob", 1), ("cy", 0), ("dan", 1)] {
            let users = list["users"].as_array().context("no list of users")?;
            let entry = users.iter().find(|entry| entry["user"] == user).context("a user is missing")?;
            ensure!(entry["devices"] == devices && entry["online"] == (devices > 0), "{entry}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_redis_hangs_is_away_for_everybody_when_it_answers_again() -> Result<()> {
    let _turn = TURN.lock().await;
    let mut cluster = Cluster::builder(2).unlimited().start().await?;
    let (left, other) = (cluster.node(0), cluster.node(1));
    let mut ada = Client::connect(&other.ws_url(), &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c", "members": ["bob", "cy"]})).await?;
    let mut bob = Client::connect(&left.ws_url(), &cluster.token("bob"), Encoding::Json).await?;
    for client in [&mut ada, &mut bob] {
        client.command("join", json!({"conversation": "c"})).await?;
    }
    ada.wait_for(|event| is_presence(event, "bob") && event["online"] == true).await?;

    cluster.redis()?.stop()?;
    // With a clean close, so that he does not linger. No member of the conversation is left on that node.
    bob.command("leave", json!({"conversation": "c"})).await?;
    until_true(WATCHED, "the node to have tried in vain to write it", async || {
        Ok(left.metric("starling_session_store_refused_total", "").await? > 0.0)
    })
    .await?;
    cluster.redis()?.resume()?;

    ada.set_patience(WATCHED);
    ada.wait_for(|event| is_presence(event, "bob") && event["online"] == false).await?;
    // Also for whoever asks what Redis holds: a node that has not known the conversation so far. It may have asked before the other
    // node has written again what it could not write; then it is told.
    let fresh = cluster.add_node().await?.ws_url();
    let mut cy = Client::connect(&fresh, &cluster.token("cy"), Encoding::Json).await?;
    let joined = cy.command("join", json!({"conversation": "c"})).await?;
    let mut online: Vec<&str> =
        joined["online"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    online.sort_unstable();
    if online == ["ada", "bob", "cy"] {
        cy.set_patience(WATCHED);
        cy.wait_for(|event| is_presence(event, "bob") && event["online"] == false).await?;
    } else {
        ensure!(online == ["ada", "cy"], "{joined}");
    }
    // From then on nobody finds him there.
    let last = cluster.add_node().await?.ws_url();
    let mut cy = Client::connect(&last, &cluster.token("cy"), Encoding::Json).await?;
    let list = cy.command("presence", json!({"conversation": "c"})).await?;
    ensure!(
        list["users"]
            .as_array()
            .context("no list of users")?
            .iter()
            .any(|entry| entry["user"] == "bob" && entry["online"] == false),
        "{list}"
    );
    Ok(())
}

fn is_presence(event: &Value, user: &str) -> bool {
    event["ev"] == "presence" && event["user"] == user
}

/// The presence events up to [`WATCHED`] after the kill, each with the time that it took.
async fn watch(client: &mut Client, since: Instant) -> Result<Vec<(Duration, Value)>> {
    let mut shown = Vec::new();
    loop {
        match client.next_event(WATCHED.saturating_sub(since.elapsed())).await {
            Ok(event) if event["ev"] == "presence" => shown.push((since.elapsed(), event)),
            Ok(_) => {}
            // Nothing more came in time.
            Err(Failure::Other(_)) => return Ok(shown),
            Err(failure) => return Err(failure.into()),
        }
    }
}

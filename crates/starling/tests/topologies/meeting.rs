//! Everything that crosses nodes, once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::Encoding;
use starling_testkit::node::Cluster;

use crate::person::Person;

/// How long a connection is watched for something that must not arrive.
const SILENCE: Duration = Duration::from_millis(400);
/// Number of messages, and of publications, that a user misses during a cut.
const MISSED: u64 = 3;

/// Ada on the first node and Bob on the second meet in a new place, in each encoding. Messages, publications, typing, read marks and
/// presence go both ways, and both change nodes by a resume.
pub async fn everything_works(cluster: &Cluster, place: &str) -> Result<()> {
    for encoding in Encoding::ALL {
        let place = format!("{place}-{encoding:?}");
        meet(cluster, &place, encoding).await.with_context(|| format!("in {place}"))?;
    }
    Ok(())
}

async fn meet(cluster: &Cluster, place: &str, encoding: Encoding) -> Result<()> {
    let mut ada = Person::connect(cluster, 0, "ada", place, encoding).await?;
    let mut bob = Person::connect(cluster, 1, "bob", place, encoding).await?;
    enter(&mut ada, &mut bob, place).await?;
    for round in 1..=3 {
        talk(&mut ada, &mut bob, &format!("round {round}")).await?;
    }
    mark(&mut ada, &mut bob, place).await?;

    ada.cut();
    miss(&mut bob, "while Ada is away").await?;
    ada.resumes(cluster.node(1), MISSED).await?;
    catch_up(&mut ada, &bob, "while Ada is away").await?;
    bob.cut();
    miss(&mut ada, "while Bob is away").await?;
    bob.resumes(cluster.node(0), MISSED).await?;
    catch_up(&mut bob, &ada, "while Bob is away").await?;
    talk(&mut bob, &mut ada, "at each other's node").await?;
    mark(&mut bob, &mut ada, place).await?;

    for person in [&mut ada, &mut bob] {
        is_present(person, place).await?;
        let mut rest = person.client()?.drain_events(SILENCE).await?;
        rest.retain(|event| {
            let gone = event["ev"] == "presence" && event["online"] == false;
            gone || event["ev"] == "message" || event["ev"] == "publication"
        });
        ensure!(rest.is_empty(), "{} is shown what should not come: {rest:?}", person.user());
    }
    Ok(())
}

/// Both enter the place and see each other online.
async fn enter(ada: &mut Person, bob: &mut Person, place: &str) -> Result<()> {
    let created = ada.client()?.command("create", json!({"conversation": place, "members": ["bob"]})).await?;
    ensure!(created["created"] == true, "{created}");
    ada.enter().await?;
    let joined = bob.enter().await?;
    let mut online: Vec<&str> =
        joined["online"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    online.sort_unstable();
    ensure!(online.contains(&"bob"), "Bob joins, and there are {online:?}");
    if !online.contains(&"ada") {
        // Her node has not announced it yet, but will.
        bob.sees("presence", "ada", "online", true).await?;
    }
    ada.sees("presence", "bob", "online", true).await?;
    is_present(ada, place).await?;
    is_present(bob, place).await
}

/// Checks that presence lists both, with one device each.
async fn is_present(person: &mut Person, place: &str) -> Result<()> {
    let list = person.client()?.command("presence", json!({"conversation": place})).await?;
    for user in ["ada", "bob"] {
        let mut users = list["users"].as_array().into_iter().flatten();
        let there =
            users.any(|entry| entry["user"] == user && entry["online"] == true && entry["devices"] == 1);
        ensure!(there, "{user} is not there: {list}");
    }
    Ok(())
}

/// Each sends and publishes something, and both receive all of it.
async fn talk(one: &mut Person, other: &mut Person, words: &str) -> Result<()> {
    for one_speaks in [true, false] {
        let (speaker, listener) =
            if one_speaks { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        let user = speaker.user();
        let words = format!("{user}, {words}");
        speaker.say(&words).await?;
        speaker.publish(&words).await?;
        for person in [speaker, listener] {
            person.hears(user, &words).await?;
            person.is_told(&words).await?;
        }
    }
    Ok(())
}

/// Each types, stops, and sets a read mark; the other sees it.
async fn mark(one: &mut Person, other: &mut Person, place: &str) -> Result<()> {
    for one_acts in [true, false] {
        let (actor, watcher) = if one_acts { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        for typing in [true, false] {
            actor.client()?.command("typing", json!({"conversation": place, "typing": typing})).await?;
            watcher.sees("typing", actor.user(), "typing", typing).await?;
        }
        let seq = actor.seen();
        actor.client()?.command("read", json!({"conversation": place, "seq": seq})).await?;
        watcher.sees("read", actor.user(), "seq", seq).await?;
    }
    Ok(())
}

/// Sends and publishes what the other misses.
async fn miss(speaker: &mut Person, words: &str) -> Result<()> {
    let user = speaker.user();
    for n in 1..=MISSED {
        let words = format!("{words}, {n}");
        speaker.say(&words).await?;
        speaker.publish(&words).await?;
        speaker.hears(user, &words).await?;
        speaker.is_told(&words).await?;
    }
    Ok(())
}

/// Checks that what was missed arrives in order.
async fn catch_up(listener: &mut Person, speaker: &Person, words: &str) -> Result<()> {
    for n in 1..=MISSED {
        let words = format!("{words}, {n}");
        listener.hears(speaker.user(), &words).await?;
        listener.is_told(&words).await?;
    }
    Ok(())
}

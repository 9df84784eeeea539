//! What the clients here say and hear, in short words.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use starling_testkit::client::Client;

/// How long a socket is listened to for what should not come.
const SILENCE: Duration = Duration::from_millis(400);

/// `send` with a key of its own; answers the number.
pub async fn say(client: &mut Client, conversation: &str, content: &str) -> Result<u64> {
    let key = format!("{:032x}", rand::random::<u128>());
    let fields = json!({"conversation": conversation, "key": key, "content": content});
    client.command("send", fields).await?["seq"].as_u64().context("a send without a number")
}

/// `publish`; answers the position.
pub async fn publish(client: &mut Client, topic: &str, data: u64) -> Result<Value> {
    Ok(client.command("publish", json!({"topic": topic, "data": data})).await?)
}

/// The next message: its number and its content.
pub async fn message(client: &mut Client) -> Result<(u64, String)> {
    let event = client.wait_for_event("message").await?;
    let seq = event["seq"].as_u64().context("a message without a number")?;
    Ok((seq, event["content"].as_str().context("a message without content")?.to_owned()))
}

/// The next publication: its offset and its data.
pub async fn publication(client: &mut Client) -> Result<(u64, Value)> {
    let event = client.wait_for_event("publication").await?;
    Ok((event["offset"].as_u64().context("a publication without an offset")?, event["data"].clone()))
}

/// The messages and publications that come before some silence.
pub async fn rest(client: &mut Client) -> Result<Vec<Value>> {
    let mut events = client.drain_events(SILENCE).await?;
    events.retain(|event| event["ev"] == "message" || event["ev"] == "publication");
    Ok(events)
}

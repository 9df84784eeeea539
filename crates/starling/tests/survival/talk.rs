//! Short functions for the clients in these tests.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use starling_testkit::client::Client;

/// How long a connection is watched for something that must not arrive.
const SILENCE: Duration = Duration::from_millis(400);

/// Sends a message with a new key and returns its number.
pub async fn say(client: &mut Client, conversation: &str, content: &str) -> Result<u64> {
    let key = format!("{:032x}", rand::random::<u128>());
    let fields = json!({"conversation": conversation, "key": key, "content": content});
    client.command("send", fields).await?["seq"].as_u64().context("a send without a number")
}

/// Publishes and returns the position.
pub async fn publish(client: &mut Client, topic: &str, data: u64) -> Result<Value> {
    Ok(client.command("publish", json!({"topic": topic, "data": data})).await?)
}

/// Returns the number and content of the next message.
pub async fn message(client: &mut Client) -> Result<(u64, String)> {
    let event = client.wait_for_event("message").await?;
    let seq = event["seq"].as_u64().context("a message without a number")?;
    Ok((seq, event["content"].as_str().context("a message without content")?.to_owned()))
}

/// Returns the offset and data of the next publication.
pub async fn publication(client: &mut Client) -> Result<(u64, Value)> {
    let event = client.wait_for_event("publication").await?;
    Ok((event["offset"].as_u64().context("a publication without an offset")?, event["data"].clone()))
}

/// Returns the messages and publications that arrive before a silence.
pub async fn rest(client: &mut Client) -> Result<Vec<Value>> {
    let mut events = client.drain_events(SILENCE).await?;
    events.retain(|event| event["ev"] == "message" || event["ev"] == "publication");
    Ok(events)
}

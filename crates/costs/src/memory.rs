//! The memory that idle sessions occupy.

use anyhow::{Context, Result};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;

use crate::budget::Counts;

/// Sessions before the first measurement, which fill what a node keeps for all of them, and between the two.
const SESSIONS: [usize; 2] = [1_000, 4_000];
/// Sessions of one user, so that no user has very many.
const SESSIONS_OF_USER: usize = 50;

/// Measures the bytes of resident memory of a node for each idle session: in a topic with both encodings, and in a conversation.
///
/// # Errors
/// When a node can't be started, or refuses a client.
pub async fn session_bytes() -> Result<Counts> {
    let mut counts = Counts::new();
    for (encoding, in_topic, name) in [
        (Encoding::Json, true, "in a topic, JSON"),
        (Encoding::MessagePack, true, "in a topic, MessagePack"),
        (Encoding::Json, false, "in a conversation, JSON"),
    ] {
        let bytes = bytes_of(encoding, in_topic).await.with_context(|| name.to_owned())?;
        counts.push((format!("bytes of an idle session {name}"), bytes));
    }
    Ok(counts)
}

async fn bytes_of(encoding: Encoding, in_topic: bool) -> Result<f64> {
    let node = Node::builder().unlimited().env("STARLING_SHARDS", "1").start().await?;
    let mut sessions = Vec::new();
    let mut resident = [0.0; 2];
    for (resident, amount) in resident.iter_mut().zip(SESSIONS) {
        for _ in 0..amount {
            let number = sessions.len();
            let user = format!("user-{}", number / SESSIONS_OF_USER);
            let mut client = Client::connect(&node.ws_url(), &node.token(&user), encoding).await?;
            if in_topic {
                client.command("subscribe", json!({"topic": "news"})).await?;
            } else {
                // A room for each user.
                client.command("create", json!({"conversation": format!("room-of-{user}")})).await?;
                client.command("join", json!({"conversation": format!("room-of-{user}")})).await?;
            }
            sessions.push(client);
        }
        *resident = node.rss_bytes()? as f64;
    }
    Ok((resident[1] - resident[0]) / SESSIONS[1] as f64)
}

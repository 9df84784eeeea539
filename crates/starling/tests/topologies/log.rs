//! The log, read over HTTP.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_testkit::client::Log;
use starling_testkit::http::Request;
use starling_testkit::node::Node;

/// Most pages of a log that are read.
const PAGES_MAX: usize = 1_000;

/// Reads the whole log of a conversation from a node, as this user.
pub async fn read(node: &Node, user: &str, conversation: &str) -> Result<Log> {
    let (mut log, mut after) = (Log::default(), 0);
    for _ in 0..PAGES_MAX {
        let url =
            format!("{}/v1/conversations/{conversation}/messages?after={after}&limit=200", node.http_url());
        let answer = Request::new("GET", &url).bearer(&node.token(user)).send().await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let page = answer.json()?;
        for message in page["messages"].as_array().context("a page without messages")? {
            let text = |name: &str| message[name].as_str().with_context(|| format!("no {name}: {message}"));
            after = message["seq"].as_u64().context("a message without a number")?;
            log.insert(conversation, after, text("id")?, text("sender")?, text("content")?);
        }
        if page["more"] == Value::Bool(false) {
            return Ok(log);
        }
    }
    anyhow::bail!("the log of {conversation} has no end")
}

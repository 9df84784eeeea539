//! `starling healthcheck`: asks the running node of this configuration how it is.

use std::time::Duration;

use anyhow::{Context, anyhow};
use http::{Method, StatusCode};
use serde_json::Value;
use starling_trust::Trust;
use tokio::time::timeout;

use crate::config::Config;
use crate::failure::Failure;
use crate::outbound::{Answer, NodeAddress, Request, connect, secure};
use crate::output::print;
use crate::process::runtime;

/// How long the answer may take. The node itself waits for its database for up to 2 s.
const LIMIT: Duration = Duration::from_secs(4);

/// Asks the node of this configuration for `/health`, or for `/ready`. Prints one line, and fails unless the answer is good.
pub fn healthcheck(config: &Config, ready: bool) -> Result<(), Failure> {
    let address = NodeAddress::of_own_node(config)?;
    let path = if ready { "/ready" } else { "/health" };
    let url = address.http_url(path);
    let answer = runtime()?.block_on(async {
        match timeout(LIMIT, ask(&address, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow!("no answer within {} s", LIMIT.as_secs())),
        }
    });
    let line = judge(&answer.with_context(|| url.clone())?, ready).map_err(|why| anyhow!("{url}: {why}"))?;
    print(&format!("{line}\n"))
}

async fn ask(address: &NodeAddress, path: &str) -> anyhow::Result<Answer> {
    let stream =
        connect(address).await.context("no node answers; is it running, with this configuration?")?;
    // The node's certificate need not name the address at which it is asked.
    let stream = secure(stream, address, Trust::AnyCertificate).await.context("TLS")?;
    let (authority, path) = (&address.authority(), &address.path(path));
    Request { method: Method::GET, authority, path, token: None }.send(stream).await
}

/// What the answer means: a line for a good one, and otherwise why it is not good.
fn judge(answer: &Answer, ready: bool) -> Result<String, String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if ready {
        let reasons: Vec<&str> =
            body["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
        match (answer.status, body["ready"].as_bool()) {
            (StatusCode::OK, Some(true)) => return Ok(format!("ready{reasons}")),
            (StatusCode::SERVICE_UNAVAILABLE, Some(false)) => return Err(format!("not ready{reasons}")),
            _ => {}
        }
    } else if let (StatusCode::OK, Some(status), Some(node)) =
        (answer.status, body["status"].as_str(), body["node"].as_str())
    {
        return Ok(format!("healthy: {node} says {status}"));
    }
    Err(format!("the answer has status {} and is not a node's", answer.status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &'static str, ready: bool) -> Result<String, String> {
        let status = StatusCode::from_u16(status).expect("a status");
        judge(&Answer { status, body: body.into() }, ready)
    }

    #[test]
    fn only_the_answer_of_a_node_is_good() {
        let health = |status, body| judged(status, body, false);
        assert_eq!(health(200, r#"{"status":"degraded","node":"a"}"#), Ok("healthy: a says degraded".into()));
        for (status, body) in [(200, "it works"), (404, r#"{"status":"ok","node":"a"}"#), (200, "{}")] {
            assert!(health(status, body).expect_err(body).contains(&status.to_string()), "{body}");
        }
        let ready = |status, body| judged(status, body, true);
        assert_eq!(ready(200, r#"{"ready":true,"reasons":[]}"#), Ok("ready".into()));
        assert_eq!(ready(200, r#"{"ready":true,"reasons":["degraded"]}"#), Ok("ready: degraded".into()));
        assert_eq!(
            ready(503, r#"{"ready":false,"reasons":["deaf","no_keys"]}"#),
            Err("not ready: deaf, no_keys".into())
        );
        assert!(ready(200, r#"{"ready":false,"reasons":[]}"#).is_err() && ready(503, "busy").is_err());
    }
}

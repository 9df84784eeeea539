//! A service that takes reports of errors, in the place of Sentry. It keeps every envelope.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::wait::until;

/// How many envelopes are kept; others are refused.
const ENVELOPES_MAX: usize = 10_000;
/// The key and the project in the address.
const KEY: &str = "public-key-of-the-project";
const PROJECT: &str = "7";

/// A running service on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct ErrorService {
    envelopes: Envelopes,
    address: SocketAddr,
    server: AbortHandle,
}

type Envelopes = Arc<Mutex<Vec<Envelope>>>;

/// An envelope as it came.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// All of it, as text.
    pub text: String,
    /// The event in it.
    pub event: Value,
}

impl ErrorService {
    /// Starts one on the runtime of the caller.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for reports")?;
        let address = listener.local_addr().context("the service's address")?;
        let envelopes = Envelopes::default();
        let router =
            Router::new().route("/api/{project}/envelope/", post(take)).with_state(envelopes.clone());
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { envelopes, address, server: server.abort_handle() })
    }

    /// What `SENTRY_DSN` has to be.
    pub fn dsn(&self) -> String {
        format!("http://{KEY}@{}/{PROJECT}", self.address)
    }

    /// All envelopes so far, in the order of their arrival.
    pub fn envelopes(&self) -> Vec<Envelope> {
        self.envelopes.lock().clone()
    }

    /// Waits for an event that `wanted` accepts.
    ///
    /// # Errors
    /// When none has come within `limit`: `what`, and what came.
    pub async fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Envelope> {
        let found = until(limit, what, async || {
            Ok(self.envelopes.lock().iter().find(|envelope| wanted(&envelope.event)).cloned())
        });
        found.await.with_context(|| format!("these came: {:?}", self.envelopes()))
    }
}

impl Drop for ErrorService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(envelopes): State<Envelopes>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut envelopes = envelopes.lock();
    if envelopes.len() >= ENVELOPES_MAX {
        return (StatusCode::TOO_MANY_REQUESTS, String::new());
    }
    match read(&project, &headers, &body) {
        Ok(envelope) => {
            envelopes.push(envelope);
            (StatusCode::OK, "{}".to_owned())
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}")),
    }
}

/// Reads an envelope with one event: a line of headers, and for the event its own headers and its contents.
fn read(project: &str, headers: &HeaderMap, body: &[u8]) -> Result<Envelope> {
    let auth = headers.get("x-sentry-auth").context("no x-sentry-auth")?.to_str()?;
    ensure!(project == PROJECT, "the project is {project}");
    ensure!(auth.starts_with("Sentry ") && auth.contains(&format!("sentry_key={KEY}")), "{auth}");
    let text = std::str::from_utf8(body).context("an envelope with an event is text")?.to_owned();
    let mut lines = text.lines();
    let envelope: Value = serde_json::from_str(lines.next().context("no headers")?)?;
    let item: Value = serde_json::from_str(lines.next().context("no item")?)?;
    let event: Value = serde_json::from_str(lines.next().context("no event")?)?;
    // An id may be written with hyphens or without.
    let id = |value: &Value| value["event_id"].as_str().unwrap_or_default().replace('-', "");
    ensure!(item["type"] == "event" && !id(&event).is_empty() && id(&envelope) == id(&event), "{text}");
    Ok(Envelope { text, event })
}

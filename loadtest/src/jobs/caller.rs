//! One connection of a backend or a worker: a request at a time, kept open between them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::run::Target;

/// The longest time for a request: a worker waits 30 s for jobs.
const LIMIT: Duration = Duration::from_secs(60);
/// The largest answer: 100 jobs with the largest payload.
const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// A connection, opened when it is needed.
#[derive(Debug)]
pub struct Caller {
    target: Arc<Target>,
    /// Its place among all connections, which says its user and its address.
    place: usize,
    token: String,
    /// How often it was opened.
    opened: usize,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// Why a request has failed.
#[derive(Debug)]
pub enum CallError {
    /// Starling has answered with an error of this code.
    Refused(String),
    /// There was no answer. Whether the request had its effect is not known.
    Broken,
}

impl CallError {
    /// The name under which it is counted.
    pub fn name(&self) -> &str {
        match self {
            Self::Refused(code) => code,
            Self::Broken => "no answer",
        }
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused(code) => {
                matches!(code.as_str(), "rate_limited" | "unavailable" | "internal" | "draining")
            }
            Self::Broken => true,
        }
    }
}

impl Caller {
    /// A connection of this place.
    pub fn new(target: &Arc<Target>, place: usize) -> Self {
        let token = target.token(place);
        Self { target: Arc::clone(target), place, token, opened: 0, open: None }
    }

    /// Posts a body and returns the answer's.
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Value, CallError> {
        let answered = timeout(LIMIT, self.exchange(path, body)).await;
        let Ok(Ok((status, answer))) = answered else {
            self.open = None;
            return Err(CallError::Broken);
        };
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let code = answer["error"]["code"].as_str().map_or(format!("HTTP {status}"), str::to_owned);
        Err(CallError::Refused(code))
    }

    async fn exchange(&mut self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = hyper::Request::post(path)
            .header(HOST, self.target.address(self.place + self.opened).authority())
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let mut sender = match self.open.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let whole = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let whole = whole.map_err(|error| anyhow::anyhow!(error)).context("read the answer")?;
        self.open = Some(sender);
        Ok((status, serde_json::from_slice(&whole.to_bytes()).unwrap_or_default()))
    }

    /// Opens a connection, to the next address if it is not the first one.
    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>> {
        let address = self.target.address(self.place + self.opened);
        self.opened += 1;
        let stream = address.open(self.place, self.target.sources()).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, and whoever sends learns of its errors.
        tokio::spawn(connection);
        Ok(sender)
    }
}

//! The backend of an application: it takes the requests of hooks and webhooks, and answers as a test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::wait::until_true;

/// How many requests are kept; others are refused.
const REQUESTS_MAX: usize = 100_000;

/// A running backend on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct Backend {
    requests: Requests,
    address: SocketAddr,
    server: AbortHandle,
}

type Requests = Arc<Mutex<Vec<Received>>>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path and query.
    pub path: String,
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    pub signed: [String; 3],
    /// The body as text, which is what is signed.
    pub text: String,
    /// The body.
    pub body: Value,
}

/// What a backend answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 with this JSON.
    Json(Value),
    /// This status, without a body.
    Status(u16),
    /// Nothing, as long as the other side waits.
    Silence,
}

impl Answer {
    /// It may happen.
    pub fn allow() -> Self {
        Self::Json(json!({"allow": true}))
    }

    /// It must not happen.
    pub fn refuse(message: &str) -> Self {
        Self::Json(json!({"allow": false, "message": message}))
    }
}

#[derive(Clone)]
struct Service {
    requests: Requests,
    answer: Arc<dyn Fn(Received) -> Answering + Send + Sync>,
}

impl Backend {
    /// Starts one on the runtime of the caller. It answers each request by `answer`, several at a time.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start<F>(answer: impl Fn(Received) -> F + Send + Sync + 'static) -> Result<Self>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for requests")?;
        let address = listener.local_addr().context("the backend's address")?;
        let requests = Requests::default();
        let answer = Arc::new(move |request| Box::pin(answer(request)) as Answering);
        let router = Router::new().fallback(take).with_state(Service { requests: requests.clone(), answer });
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { requests, address, server: server.abort_handle() })
    }

    /// Starts one that gives the same answer to each request.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn answering(answer: Answer) -> Result<Self> {
        Self::start(move |_| std::future::ready(answer.clone())).await
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.requests.lock().clone()
    }

    /// Waits until there have been so many requests, and returns all.
    ///
    /// # Errors
    /// When they have not come within `limit`.
    pub async fn wait_for(&self, limit: Duration, count: usize) -> Result<Vec<Received>> {
        let what = format!("{count} requests to the backend");
        until_true(limit, &what, async || {
            let came = self.requests.lock().len();
            ensure!(came >= count, "{came} have come");
            Ok(true)
        })
        .await?;
        Ok(self.requests())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(service): State<Service>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let signed = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned());
    let text = String::from_utf8_lossy(&body).into_owned();
    let body = serde_json::from_str(&text).unwrap_or_default();
    let received = Received { path: uri.to_string(), signed, text, body };
    {
        let mut requests = service.requests.lock();
        if requests.len() >= REQUESTS_MAX {
            return StatusCode::INSUFFICIENT_STORAGE.into_response();
        }
        requests.push(received.clone());
    }
    match (service.answer)(received).await {
        Answer::Json(value) => Json(value).into_response(),
        Answer::Status(status) => {
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}

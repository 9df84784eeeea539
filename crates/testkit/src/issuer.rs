//! An issuer of tokens as a node sees it: a key set (JWKS) behind a URL.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Serves a key set on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct Issuer {
    keys: Arc<Mutex<Value>>,
    address: SocketAddr,
    server: AbortHandle,
}

impl Issuer {
    /// Starts one on the runtime of the caller. What it serves need not be a key set.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(keys: Value) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for whoever wants keys")?;
        let address = listener.local_addr().context("the issuer's address")?;
        let keys = Arc::new(Mutex::new(keys));
        let router = Router::new().route("/jwks.json", get(show)).with_state(keys.clone());
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { keys, address, server: server.abort_handle() })
    }

    /// Serves this from now on.
    pub fn serve(&self, keys: Value) {
        *self.keys.lock() = keys;
    }

    /// What `STARLING_JWT_JWKS_URL` has to be.
    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn show(State(keys): State<Arc<Mutex<Value>>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], keys.lock().to_string())
}

//! The metrics port. It shares file descriptors with the public port, so the number of its connections is limited.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use starling_telemetry::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at a time. Few clients ask for metrics, and each connection carries one response.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last. Prometheus waits for 10 s by default.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are buffered of a request, and of a response, at most.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// How long nothing is accepted after accepting failed, for example because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Opens the metrics port.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("metrics_listen: can't listen on {address}"))
}

/// Serves `/metrics`, and the probes of a node without a public port, for as long as the program runs.
pub async fn serve(listener: TcpListener, metrics: Metrics, probes: Option<Router>) {
    let answer = move || {
        let metrics = metrics.clone();
        async move { ([(CONTENT_TYPE, TEXT)], metrics.render()) }
    };
    let router = Router::new().route("/metrics", get(answer)).merge(probes.unwrap_or_default());
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            // Only this one client has gone.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) =>
            {
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics port can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        // A response takes milliseconds, so the oldest connection is idle.
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(serve_one(socket, router.clone())).abort_handle());
    }
}

/// Serves one request and closes the connection, so that nobody keeps an idle one.
async fn serve_one(socket: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    // A client that breaks off or is too slow tries again.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

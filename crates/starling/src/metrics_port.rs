//! The metrics port.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use starling_telemetry::Metrics;
use tokio::net::TcpListener;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Opens the metrics port.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("metrics_listen: can't listen on {address}"))
}

/// Serves `/metrics` for as long as the program runs.
pub async fn serve(listener: TcpListener, metrics: Metrics) {
    let answer = move || {
        let metrics = metrics.clone();
        async move { ([(CONTENT_TYPE, TEXT)], metrics.render()) }
    };
    let router = Router::new().route("/metrics", get(answer));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics port has failed");
    }
}

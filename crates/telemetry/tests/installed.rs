//! Telemetry and metrics installed for a whole process, with a collector that listens.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use starling_telemetry::{
    LogFormat, Metrics, MetricsError, TRACE_TARGET, Telemetry, TelemetryConfig, TelemetryError,
    current_traceparent, link_to, set_parent,
};
use tokio::net::TcpListener;

/// Everything that is installed once per process is in this one test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_reach_the_collector_and_metrics_are_served() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let collector = Collector::default();
    let endpoint = collector.serve().await;
    let config = TelemetryConfig {
        log_format: LogFormat::Json,
        filter: "info".to_owned(),
        otlp_endpoint: Some(endpoint),
        node: "node-1".to_owned(),
        version: "1.2.3".to_owned(),
    };
    let metrics = Metrics::install("1.2.3").unwrap();
    assert!(matches!(Metrics::install("1.2.3"), Err(MetricsError::Installed)));
    let guard = Telemetry::install(&config).unwrap();
    assert!(matches!(Telemetry::install(&config), Err(TelemetryError::Installed(_))));

    let sent = {
        let _entered = tracing::info_span!(target: TRACE_TARGET, "append", messages = 3).entered();
        current_traceparent().unwrap()
    };
    let receive = tracing::info_span!(target: TRACE_TARGET, "receive");
    set_parent(&receive, &sent);
    receive.in_scope(|| tracing::info!("a log line, in no trace"));
    drop(receive);
    let several = tracing::info_span!(target: TRACE_TARGET, "several");
    link_to(&several, &sent);
    link_to(&several, "not a traceparent");
    drop(several);
    assert!(tracing::debug_span!(target: "hyper", "noise").is_disabled());

    tokio::task::spawn_blocking(move || guard.shutdown(Duration::from_secs(20))).await.unwrap();

    let received = collector.received.lock();
    let spans: Vec<&Span> = received
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    assert_eq!(spans.len(), 3);
    let named = |name: &str| *spans.iter().find(|span| span.name == name).unwrap();
    let (append, receive) = (named("append"), named("receive"));
    assert_eq!(append.trace_id, receive.trace_id);
    assert_eq!(receive.parent_span_id, append.span_id);
    let several = named("several");
    assert_ne!(several.trace_id, append.trace_id, "a link is no parent");
    let links: Vec<_> = several.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&append.trace_id, &append.span_id)]);
    assert!(append.attributes.iter().any(|attribute| attribute.key == "messages"));
    let resource = received[0].resource_spans[0].resource.as_ref().unwrap();
    for (key, wanted) in
        [("service.instance.id", "node-1"), ("service.version", "1.2.3"), ("service.name", "starling")]
    {
        let value = resource.attributes.iter().find(|attribute| attribute.key == key).unwrap();
        let value = value.value.as_ref().unwrap().value.as_ref().unwrap();
        assert_eq!(value, &Value::StringValue(wanted.to_owned()), "{key}");
    }

    metrics::counter!("starling_commands_total", "op" => "send").increment(1);
    let text = metrics.render();
    for start in [
        r#"starling_build_info{version="1.2.3"} 1"#,
        r#"starling_commands_total{op="send"} 1"#,
        "# TYPE process_cpu_seconds_total counter",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start}\n{text}");
    }
}

/// An OTLP collector that remembers what it got.
#[derive(Clone, Default)]
struct Collector {
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/")
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    collector.received.lock().push(ExportTraceServiceRequest::decode(body).unwrap());
}

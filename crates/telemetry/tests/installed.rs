//! Telemetry and metrics installed for a whole process, with a test collector.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use starling_telemetry::{
    LogFormat, Metrics, MetricsError, TRACE_TARGET, Telemetry, TelemetryConfig, TelemetryError,
    current_traceparent, link_to, set_parent,
};
use starling_testkit::collector::Collector;

/// One test for everything that can only be installed once per process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_reach_the_collector_and_metrics_are_served() {
    starling_trust::install_provider();
    let collector = Collector::start().await.unwrap();
    let config = TelemetryConfig {
        log_format: LogFormat::Json,
        filter: "info".to_owned(),
        sentry_dsn: None,
        otlp_endpoint: Some(format!("{}/", collector.endpoint())),
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

    let spans = collector.spans();
    assert_eq!(spans.len(), 3);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (append, receive, several) = (named("append"), named("receive"), named("several"));
    assert!(receive.is_child_of(append));
    assert_ne!(several.trace, append.trace, "a link is no parent");
    assert!(several.links.len() == 1 && several.is_linked_to(append));
    assert_eq!(append.attributes["messages"], "3");
    for (key, wanted) in
        [("service.instance.id", "node-1"), ("service.version", "1.2.3"), ("service.name", "starling")]
    {
        assert_eq!(append.resource[key], wanted, "{key}");
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

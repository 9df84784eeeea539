//! Installation of logs and traces for the whole process.

use std::io;
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::error::TelemetryError;
use crate::error_reports::{self, ErrorLayer, ErrorReports};
use crate::filter::{self, LogFilter};
use crate::last_words;
use crate::logs::{LogFormat, LogWriter, log_layer};
use crate::traces::{self, TRACE_TARGET};

/// Configuration of logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Log filter in the syntax of `RUST_LOG`: `info`, `warn,starling_hub=debug`, ….
    pub filter: String,
    /// Base URL of an OTLP/HTTP collector, such as `http://localhost:4318`. `None` turns traces off.
    pub otlp_endpoint: Option<String>,
    /// Address of a service that takes reports of errors and panics, in the form that Sentry calls a DSN. `None` turns them off.
    pub sentry_dsn: Option<String>,
    /// Name of this node: part of every JSON line, and `service.instance.id` in traces.
    pub node: String,
    /// Version of the program: `service.version` in traces.
    pub version: String,
}

/// Entry point for installing logs and traces.
pub struct Telemetry;

/// Keeps logs and traces running. [`TelemetryGuard::shutdown`] flushes and ends them.
#[must_use = "logs and traces are flushed by it at the end"]
pub struct TelemetryGuard {
    writer: LogWriter,
    tracer: Option<SdkTracerProvider>,
    reports: Option<ErrorReports>,
    filter: LogFilter,
}

impl Telemetry {
    /// Installs logs on standard output and, if there is an endpoint, traces, for the whole process. With an endpoint it must be
    /// called inside the Tokio runtime that will run the export, after a TLS provider has been installed.
    ///
    /// A slow standard output blocks nobody: lines wait in a bounded queue. If it is full, they are dropped and counted in
    /// `starling_log_lines_dropped_total`.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn install(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
        let (subscriber, guard) = subscriber(config, Box::new(io::stdout()))?;
        subscriber.try_init()?;
        if let Some(reports) = &guard.reports {
            error_reports::report_panics(reports.clone());
        }
        last_words::keep(guard.writer.clone(), guard.reports.clone());
        Ok(guard)
    }
}

impl TelemetryGuard {
    /// Returns the handle that changes the log filter while the process runs.
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// Exports the remaining traces and error reports, and writes the remaining log lines. Takes at most `limit`, whatever the collector and
    /// standard output do. Blocks the thread: inside a runtime, call it with `tokio::task::spawn_blocking`, while the runtime that
    /// runs the export is still running.
    pub fn shutdown(self, limit: Duration) {
        let end = Instant::now() + limit;
        if let Some(tracer) = self.tracer
            && let Err(error) = tracer.shutdown_with_timeout(limit)
        {
            tracing::warn!(%error, "some traces were not exported");
        }
        if let Some(reports) = self.reports {
            reports.flush(end.saturating_duration_since(Instant::now()));
        }
        self.writer.flush(end.saturating_duration_since(Instant::now()));
    }
}

/// Creates the subscriber and its guard without installing it.
fn subscriber(
    config: &TelemetryConfig,
    output: Box<dyn io::Write + Send>,
) -> Result<(impl SubscriberInitExt + use<>, TelemetryGuard), TelemetryError> {
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(filter::parse(&config.filter)?);
    let tracer = match &config.otlp_endpoint {
        Some(endpoint) => Some(traces::provider(endpoint, &config.node, &config.version)?),
        None => None,
    };
    let style = config.log_format.style();
    let writer = LogWriter::start(output, style, &config.node)?;
    // All layers have a filter and are in one list. A single layer without a filter (even an absent one) would cause every span to be
    // recorded, whether or not a layer wants it.
    let mut layers = vec![log_layer(style, writer.clone()).with_filter(filter).boxed()];
    if let Some(provider) = &tracer {
        let only_traces = Targets::new().with_target(TRACE_TARGET, LevelFilter::TRACE);
        let layer = tracing_opentelemetry::layer().with_tracer(traces::tracer(provider));
        layers.push(layer.with_filter(only_traces).boxed());
    }
    let reports = match &config.sentry_dsn {
        Some(dsn) => Some(ErrorReports::start(dsn, &config.node, &config.version)?),
        None => None,
    };
    if let Some(reports) = &reports {
        // Whatever the log shows: an error is reported although the log was turned off.
        // But the client of RabbitMQ reports each broken connection as one.
        let own = Targets::new().with_default(LevelFilter::ERROR).with_target("lapin", LevelFilter::OFF);
        layers.push(ErrorLayer::new(reports.clone()).with_filter(own).boxed());
    }
    let subscriber = Registry::default().with(layers);
    Ok((subscriber, TelemetryGuard { writer, tracer, reports, filter: LogFilter::new(handle) }))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    /// Standard output that a test can read.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(log_format: LogFormat, filter: &str) -> TelemetryConfig {
        TelemetryConfig {
            log_format,
            filter: filter.to_owned(),
            otlp_endpoint: None,
            sentry_dsn: None,
            node: "node \"1\"".to_owned(),
            version: "0".to_owned(),
        }
    }

    /// Returns what a node with this configuration logs during `work`.
    fn logged(config: &TelemetryConfig, work: impl FnOnce()) -> String {
        let screen = Screen::default();
        let (subscriber, guard) = subscriber(config, Box::new(screen.clone())).unwrap();
        tracing::dispatcher::with_default(&subscriber.into(), work);
        guard.shutdown(Duration::from_secs(5));
        let bytes = screen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_fields_and_the_node() {
        let text = logged(&config(LogFormat::Json, "info"), || {
            tracing::info!(user = "ann", count = 3, "joined");
            tracing::debug!("not shown");
        });
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["node"], "node \"1\"");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "joined");
        assert_eq!((&lines[0]["user"], &lines[0]["count"]), (&Value::from("ann"), &Value::from(3)));
    }

    #[test]
    fn human_lines_are_plain_where_there_is_no_terminal() {
        let text = logged(&config(LogFormat::Human, "warn"), || {
            tracing::info!("not shown");
            tracing::warn!(host = "db", "away");
        });
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("WARN") && text.contains("away") && text.contains("host=\"db\""), "{text}");
    }

    #[test]
    fn spans_for_traces_are_off_without_an_endpoint_unless_asked_for() {
        let mut on = true;
        logged(&config(LogFormat::Json, "trace"), || {
            on = !tracing::info_span!(target: TRACE_TARGET, "handshake").is_disabled();
        });
        assert!(!on);
        logged(&config(LogFormat::Json, "info,starling::trace=debug"), || {
            on = !tracing::info_span!(target: TRACE_TARGET, "handshake").is_disabled();
        });
        assert!(on);
    }

    #[test]
    fn the_filter_can_be_changed_while_the_process_runs() {
        let screen = Screen::default();
        let (subscriber, guard) =
            subscriber(&config(LogFormat::Json, "warn"), Box::new(screen.clone())).unwrap();
        tracing::dispatcher::with_default(&subscriber.into(), || {
            tracing::info!("before");
            assert!(guard.filter().change("inof").unwrap_err().to_string().contains("did you mean `info`?"));
            tracing::info!("still before");
            guard.filter().change("info").unwrap();
            tracing::info!("after");
        });
        guard.shutdown(Duration::from_secs(5));
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("before") && text.contains("after"), "{text}");
    }

    #[test]
    fn a_bad_filter_or_endpoint_is_named() {
        let error =
            |config: TelemetryConfig| subscriber(&config, Box::new(io::sink())).err().unwrap().to_string();
        assert!(error(config(LogFormat::Auto, "starling=loud")).starts_with("log: "));
        for endpoint in ["nonsense", "", "ftp://ann:hush@collector/", "http://ann:hush@:4318", "hush"] {
            let config = TelemetryConfig {
                otlp_endpoint: Some(endpoint.to_owned()),
                ..config(LogFormat::Auto, "info")
            };
            let error = error(config);
            assert!(error.starts_with("otlp_endpoint: ") && !error.contains("hush"), "{error}");
        }
    }
}

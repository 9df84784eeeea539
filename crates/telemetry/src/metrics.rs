//! Metrics in Prometheus' text format.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::catalogue::{self, COUNT_BUCKETS, Kind, SECONDS_BUCKETS};
use crate::process;

/// Interval at which recorded samples are moved into their buckets. Until then they stay in memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Reason why metrics could not be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The process already has a recorder.
    #[error("metrics are installed already")]
    Installed,
    /// No Tokio runtime is available for the upkeep.
    #[error("metrics need a Tokio runtime for their upkeep")]
    NoRuntime,
    /// The recorder could not be built.
    #[error("can't set up metrics: {0}")]
    Build(#[from] BuildError),
}

/// Handle to all metrics of the process. Clones share the same metrics.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    handle: PrometheusHandle,
    upkeep: AbortHandle,
}

impl Metrics {
    /// Starts recording metrics for the whole process. Must be called inside a Tokio runtime, before any metric is registered.
    /// `version` is the program's version, for `starling_build_info`.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub fn install(version: &str) -> Result<Metrics, MetricsError> {
        let runtime = Handle::try_current().map_err(|_| MetricsError::NoRuntime)?;
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
        catalogue::describe_all();
        metrics::gauge!("starling_build_info", "version" => version.to_owned()).set(1.0);
        // Shows the series at 0 before the first line is dropped.
        metrics::counter!("starling_log_lines_dropped_total").increment(0);
        crate::error_reports::register();
        let upkeep = runtime.spawn(keep_up(handle.clone())).abort_handle();
        Ok(Metrics { inner: Arc::new(Inner { handle, upkeep }) })
    }

    /// Returns all metrics in the text format (version 0.0.4), including those of the process. Takes some milliseconds if there are
    /// many series, so it must not run on a shard's thread.
    pub fn render(&self) -> String {
        let mut text = self.inner.handle.render();
        process::render(&mut text);
        text
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), COUNT_BUCKETS)?;
    for metric in catalogue::metrics().filter(|metric| metric.kind == Kind::Histogram) {
        builder =
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.unit.buckets())?;
    }
    Ok(builder.build_recorder())
}

async fn keep_up(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_and_everything_its_help() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            catalogue::describe_all();
            metrics::histogram!("starling_commit_seconds").record(0.003);
            metrics::histogram!("starling_append_batch_size").record(5.0);
            metrics::histogram!("starling_store_commit_messages", "database" => "sqlite").record(5.0);
            metrics::counter!("starling_commands_total", "op" => "send").increment(2);
            metrics::gauge!("starling_connections").set(7.0);
        });
        let text = handle.render();
        for line in [
            "# TYPE starling_commit_seconds histogram",
            r#"starling_commit_seconds_bucket{le="0.0025"} 0"#,
            r#"starling_commit_seconds_bucket{le="0.005"} 1"#,
            r#"starling_append_batch_size_bucket{le="4"} 0"#,
            r#"starling_append_batch_size_bucket{le="8"} 1"#,
            r#"starling_store_commit_messages_bucket{database="sqlite",le="8"} 1"#,
            "# TYPE starling_commands_total counter",
            r#"starling_commands_total{op="send"} 2"#,
            "# TYPE starling_connections gauge",
            "starling_connections 7",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(text.contains("# HELP starling_commit_seconds "), "{text}");
        assert!(!text.contains("quantile"), "no summaries: {text}");
    }
}

//! Observability of running nodes: traces across nodes, every metric, and the log.

mod background;
mod error_reports;
mod exposition;
mod logs;
mod metrics;
mod metrics_port;
mod traces;

use std::time::Duration;

/// Timeout for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

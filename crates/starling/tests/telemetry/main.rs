//! What an operator can see of running nodes: traces from one node to the next, every metric, and the log.

mod exposition;
mod logs;
mod metrics;
mod metrics_port;
mod traces;

use std::time::Duration;

/// How long something may take that should come at once, on a machine that is busy.
const SOON: Duration = Duration::from_secs(30);

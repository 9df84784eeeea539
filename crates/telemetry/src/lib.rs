//! What an operator sees of a node: logs ([`Telemetry`]), traces (OTLP, W3C `traceparent`) and metrics ([`Metrics`], and the
//! [`catalogue`] of all of them).
//!
//! Spans under the target [`TRACE_TARGET`] are traces. They go to the OTLP endpoint alone; without one they cost a load and a
//! branch.

pub mod catalogue;
mod filter;
mod logs;
mod metrics;
mod process;
mod telemetry;
mod trace_context;
mod traces;

pub use filter::{LogFilter, check_filter};
pub use logs::LogFormat;
pub use metrics::{Metrics, MetricsError};
pub use telemetry::{Telemetry, TelemetryConfig, TelemetryError, TelemetryGuard};
pub use trace_context::{current_traceparent, link_to, set_parent};
pub use traces::TRACE_TARGET;

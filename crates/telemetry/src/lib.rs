//! Logs and reports of errors ([`Telemetry`]), traces (OTLP, W3C `traceparent`) and metrics ([`Metrics`], with a [`catalogue`] of all of them).
//!
//! Spans with the target [`TRACE_TARGET`] are traces. They are only sent to the OTLP endpoint. Without an endpoint each costs a
//! load and a branch.

pub mod catalogue;
mod error;
mod error_reports;
mod filter;
mod last_words;
mod logs;
mod metrics;
mod process;
mod telemetry;
mod trace_context;
mod traces;

pub use error::TelemetryError;
pub use error_reports::check_dsn;
pub use filter::{LogFilter, check_filter};
pub use last_words::flush_before_abort;
pub use logs::LogFormat;
pub use metrics::{Metrics, MetricsError};
pub use telemetry::{Telemetry, TelemetryConfig, TelemetryGuard};
pub use trace_context::{current_traceparent, link_to, set_parent};
pub use traces::TRACE_TARGET;

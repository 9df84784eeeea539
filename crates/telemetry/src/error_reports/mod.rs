//! Reports of errors and panics, to a service that speaks Sentry's protocol.
//!
//! A report says what happened and where, and nothing of users: see [`report`]. Reports wait in a bounded queue for a thread of their
//! own, so that nobody waits for the service.

mod layer;
mod panic;
mod queue;
mod report;
mod sender;

pub(crate) use layer::ErrorLayer;
pub(crate) use panic::report_panics;
pub use queue::check_dsn;
pub(crate) use queue::{ErrorReports, register};

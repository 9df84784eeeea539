//! The layer of the log that reports errors.

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::queue::ErrorReports;

/// Reports events of level `ERROR`.
pub(crate) struct ErrorLayer {
    reports: ErrorReports,
}

impl ErrorLayer {
    /// Makes the layer, which hands its reports to these.
    pub(crate) fn new(reports: ErrorReports) -> ErrorLayer {
        ErrorLayer { reports }
    }
}

impl<S: Subscriber> Layer<S> for ErrorLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR
            && let Some(report) = self.reports.origin.of_event(event)
        {
            self.reports.send(report);
        }
    }
}

//! Connects the work of a lane with the traces that it belongs to.

use starling_telemetry::{current_traceparent, link_to, set_parent};
use tracing::Span;

/// The command for which a job is done. Its span stays open until the job is done, so that it covers the whole command.
pub(crate) struct Origin {
    traceparent: Option<Box<str>>,
    _open: Span,
}

impl Origin {
    /// Returns the command that is under way in this task.
    pub fn current() -> Origin {
        Origin { traceparent: current_traceparent().map(Into::into), _open: Span::current() }
    }

    /// Returns the command's `traceparent`, if it is traced.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }
}

/// Makes a batch part of the trace of its only job, or links it to the traces of its jobs if there are several.
pub(crate) fn belong_to<'a>(span: &Span, jobs: usize, traceparents: impl Iterator<Item = &'a str>) {
    if span.is_disabled() {
        return;
    }
    if jobs == 1 {
        traceparents.for_each(|traceparent| set_parent(span, traceparent));
    } else {
        traceparents.for_each(|traceparent| link_to(span, traceparent));
    }
}

//! What a report says.
//!
//! It leaves the machine, so it holds nothing that a user may have written or that names one: the text of an event, which is a constant
//! of the program, with its place, its numbers, and the fields of [`TEXT_FIELDS`]. The error behind it, which may quote data, stays in
//! the node's own log.

use std::fmt;
use std::time::SystemTime;

use sentry_types::protocol::v7::{Event, Exception, Level, Map, Value};
use tracing::field::{Field, Visit};

/// Fields whose text is a constant of the program.
const TEXT_FIELDS: [&str; 2] = ["task", "signal"];
/// What all of Starling's targets begin with. Errors of other crates may quote data.
const OWN_TARGETS: &str = "starling";

/// Who reports.
#[derive(Debug)]
pub(super) struct Origin {
    /// The node's name.
    pub(super) node: String,
    /// The program with its version.
    pub(super) release: String,
}

impl Origin {
    /// The report of a log event; `None`: another crate's.
    pub(super) fn of_event(&self, event: &tracing::Event<'_>) -> Option<Event<'static>> {
        let metadata = event.metadata();
        if !metadata.target().starts_with(OWN_TARGETS) {
            return None;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut report = self.blank(Level::Error);
        report.message = Some(fields.message);
        report.logger = Some(metadata.target().to_owned());
        report.extra = fields.others;
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            report.culprit = Some(format!("{file}:{line}"));
        }
        Some(report)
    }

    /// The report of a panic at a place of the code. `message`: its text, where that is a constant of the program.
    pub(super) fn of_panic(
        &self,
        place: &str,
        message: Option<&'static str>,
        thread: &str,
    ) -> Event<'static> {
        let mut report = self.blank(Level::Fatal);
        let text = message.unwrap_or("the text may quote data; it is in the node's log");
        report.exception = vec![Exception {
            ty: format!("panic at {place}"),
            value: Some(text.to_owned()),
            ..Exception::default()
        }]
        .into();
        report.culprit = Some(place.to_owned());
        report.extra.insert("thread".to_owned(), thread.into());
        report
    }

    fn blank(&self, level: Level) -> Event<'static> {
        Event {
            level,
            timestamp: SystemTime::now(),
            server_name: Some(self.node.clone().into()),
            release: Some(self.release.clone().into()),
            platform: "native".into(),
            ..Event::default()
        }
    }
}

/// The fields of an event that may leave the machine.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else if TEXT_FIELDS.contains(&field.name()) {
            self.keep(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if TEXT_FIELDS.contains(&field.name()) {
            self.keep(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }
}

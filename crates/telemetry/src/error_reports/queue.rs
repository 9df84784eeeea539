//! The reports that wait for the thread that sends them.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sentry_types::Dsn;
use sentry_types::protocol::v7::Event;

use super::report::Origin;
use super::sender::{Entry, Outcome, Sender};
use crate::error::TelemetryError;

/// Most reports that wait.
const REPORTS_MAX: usize = 64;

/// Checks the address of a service, which Sentry calls a DSN.
///
/// # Errors
/// [`TelemetryError::ErrorReports`], without the address, which holds a key.
pub fn check_dsn(dsn: &str) -> Result<(), TelemetryError> {
    parse(dsn).map(drop)
}

fn parse(dsn: &str) -> Result<Dsn, TelemetryError> {
    // The reason may repeat parts of the address.
    Dsn::from_str(dsn.trim()).map_err(|_| {
        TelemetryError::ErrorReports("is not an address of the form https://KEY@HOST/PROJECT".to_owned())
    })
}

/// Takes reports, and drops them where too many wait.
#[derive(Clone)]
pub(crate) struct ErrorReports {
    queue: SyncSender<Entry>,
    pub(super) origin: Arc<Origin>,
}

impl ErrorReports {
    /// Starts the thread that sends reports. It ends with the last clone.
    pub(crate) fn start(dsn: &str, node: &str, version: &str) -> Result<ErrorReports, TelemetryError> {
        let sender = Sender::new(&parse(dsn)?, version)?;
        let (queue, entries) = sync_channel(REPORTS_MAX);
        thread::Builder::new().name("error-reports".to_owned()).spawn(move || sender.run(&entries))?;
        let origin = Origin { node: node.to_owned(), release: format!("starling@{version}") };
        Ok(ErrorReports { queue, origin: Arc::new(origin) })
    }

    /// Waits until all earlier reports were sent or given up, but no longer than `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (done, sent) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            // The caller does the same whether or not this was in time.
            let _ = sent.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
    }

    /// Adds a report.
    pub(super) fn send(&self, report: Event<'static>) {
        if self.queue.try_send(Entry::Report(Box::new(report))).is_err() {
            Outcome::Dropped.count();
        }
    }
}

/// The series of all outcomes, at 0 before the first report.
pub(crate) fn register() {
    Outcome::ALL.into_iter().for_each(Outcome::register);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_used_is_not_repeated() {
        check_dsn("https://hush@errors.example/7\n").unwrap();
        check_dsn("http://hush@127.0.0.1:9000/path/7").unwrap();
        for dsn in ["", "hush", "https://errors.example/7", "https://hush@errors.example", "ftp://hush@h/1"] {
            let error = check_dsn(dsn).unwrap_err().to_string();
            assert!(error.starts_with("sentry_dsn: ") && !error.contains("hush"), "{error}");
        }
    }
}

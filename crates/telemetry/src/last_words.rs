//! What a process still has to say before it aborts.

use std::sync::OnceLock;
use std::time::Duration;

use crate::error_reports::ErrorReports;
use crate::logs::LogWriter;

/// How long the log may take, and the error reports.
const LIMIT: Duration = Duration::from_secs(2);

/// What was installed for this process.
static INSTALLED: OnceLock<(LogWriter, Option<ErrorReports>)> = OnceLock::new();

/// Notes what was installed.
pub(crate) fn keep(log: LogWriter, reports: Option<ErrorReports>) {
    // Only the first installation counts, and there is no second.
    let _ = INSTALLED.set((log, reports));
}

/// Writes the remaining log lines and sends the remaining error reports, in bounded time. For a process that is about to abort; blocks
/// the thread.
pub fn flush_before_abort() {
    let Some((log, reports)) = INSTALLED.get() else { return };
    log.flush(LIMIT);
    if let Some(reports) = reports {
        reports.flush(LIMIT);
    }
}

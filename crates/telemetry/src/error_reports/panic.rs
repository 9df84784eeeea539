//! Reports of panics.

use std::panic::{self, PanicHookInfo};

use super::queue::ErrorReports;

/// Reports panics of this process from now on, after the hook that is there already.
pub(crate) fn report_panics(reports: ErrorReports) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        report(&reports, info);
    }));
}

fn report(reports: &ErrorReports, info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    // A text that was put together at run time may quote data: that of a slice, for example, quotes the string.
    let message = info.payload().downcast_ref::<&'static str>().copied();
    let thread = std::thread::current();
    reports.send(reports.origin.of_panic(&place, message, thread.name().unwrap_or("unnamed")));
}

//! The result of a run of jobs for the terminal.

use std::fmt::Write;

use super::{JobReport, JobScenario};
use crate::measure::Histogram;
use crate::report::{usage, verdict_line};

/// The result in a few lines. With `colour` the verdicts are coloured.
pub fn text(report: &JobReport<'_>, colour: bool) -> String {
    let measured = &report.series.measured;
    let counts = &measured.counts;
    let scenario = report.plan.scenario();
    let mut out = format!("{}: {}\n{}\n\n", report.name, scenario.about, in_short(scenario));
    let mut row = |name: &str, value: String| out.push_str(&format!("  {name:<14} {value}\n"));
    let rate = |count| format!("{count:>10}   {:.1} a second", report.per_second(count));
    row("added", rate(counts.added));
    row("begun", rate(counts.begun));
    row("finished", rate(counts.finished));
    row("lost", format!("{:>10}   doubled {}", counts.lost, counts.doubled));
    row("errors", format!("{:>10}   {:.2} %", counts.failures(), counts.errors_percent()));
    for (name, count) in &counts.errors {
        let _ = writeln!(out, "                 {count:>10} × {name}");
    }
    let _ =
        writeln!(out, "\n  {:<14} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p90", "p99", "longest");
    for (name, histogram) in
        [("add", &measured.add), ("start", &measured.start), ("finish", &measured.finish)]
    {
        if histogram.count() > 0 {
            let _ = writeln!(out, "  {name:<14} {}", percentiles(histogram));
        }
    }
    let is_measured = |second: u32| report.plan.is_measured(second);
    out.push_str(&usage(&report.series.observed, is_measured, "job", report.per_second(counts.finished)));
    out.push('\n');
    for verdict in &report.verdicts {
        let _ = writeln!(out, "  {}", verdict_line(verdict, colour));
    }
    for doubt in report.doubts() {
        let _ = writeln!(out, "\n  {doubt}");
    }
    out
}

fn percentiles(histogram: &Histogram) -> String {
    let at = |percent| histogram.percentile_ms(percent).unwrap_or(0.0);
    let longest = histogram.max_ms().unwrap_or(0.0);
    format!("{:>9.2} {:>9.2} {:>9.2} {longest:>9.2}", at(50.0), at(90.0), at(99.0))
}

/// What a scenario is, in a few words.
pub(super) fn in_short(scenario: &JobScenario) -> String {
    let jobs = &scenario.jobs;
    let load = if jobs.outstanding > 0 {
        format!("{} jobs under way at any time", jobs.outstanding)
    } else {
        let rates = scenario.stages.iter().map(|stage| stage.jobs_per_second);
        format!("{:.0} jobs a second at most", rates.fold(0.0, f64::max))
    };
    format!("{load}, {} workers, {:?}", jobs.workers, scenario.duration())
}

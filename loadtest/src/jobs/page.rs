//! The result of a run of jobs as one page of HTML that needs nothing from outside.

use starling_charts::{Chart, Line, Scale, escape};

use super::meter::JobSecond;
use super::text::in_short;
use super::{JobReport, text};
use crate::measure::{Histogram, Observation};
use crate::report::{Sheet, chart, usage_lines};

/// The page.
pub fn page(report: &JobReport<'_>) -> String {
    let scenario = report.plan.scenario();
    Sheet {
        name: report.name,
        about: &scenario.about,
        in_short: &in_short(scenario),
        passed: report.passed(),
        doubts: &report.doubts(),
        figures: &figures(report),
        verdicts: &report.verdicts,
        charts: &charts(report),
        text: &text(report, false),
        scenario: &toml::to_string_pretty(scenario).unwrap_or_default(),
    }
    .html()
}

/// The figures that matter most, in large type.
fn figures(report: &JobReport<'_>) -> Vec<(&'static str, String)> {
    let measured = &report.series.measured;
    let counts = &measured.counts;
    let start = |percent| {
        measured.start.percentile_ms(percent).map_or("–".to_owned(), |time| format!("{time:.1} ms"))
    };
    vec![
        ("jobs added a second", format!("{:.0}", report.per_second(counts.added))),
        ("jobs finished a second", format!("{:.0}", report.per_second(counts.finished))),
        ("start, p50", start(50.0)),
        ("start, p90", start(90.0)),
        ("start, p99", start(99.0)),
        ("lost · doubled", format!("{} · {}", counts.lost, counts.doubled)),
        ("errors", format!("{:.2} %", counts.errors_percent())),
    ]
    .into_iter()
    .map(|(name, value)| (name, escape(&value)))
    .collect()
}

fn charts(report: &JobReport<'_>) -> Vec<Chart<'static>> {
    let line = |name: &str, value: &dyn Fn(&JobSecond) -> Option<f64>| {
        let seconds = report.series.seconds.iter();
        let points = seconds.filter_map(|(at, second)| Some((f64::from(*at), value(second)?)));
        Line { name: name.to_owned(), points: points.collect() }
    };
    let percentiles = |histogram: fn(&JobSecond) -> &Histogram| {
        [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)]
            .map(|(name, percent)| line(name, &|second| histogram(second).percentile_ms(percent)))
    };
    let used = |value: fn(&Observation) -> f64| usage_lines(&report.series.observed, value);
    let mut processors = used(|one| one.processors);
    processors.push(line("share of the generator's threads", &|second| Some(second.busy)));
    let log = "ms, logarithmic";
    vec![
        chart("From due to begun", log, Scale::Logarithmic, percentiles(|second| &second.meter.start)),
        chart("From due to acknowledged", log, Scale::Logarithmic, percentiles(|second| &second.meter.add)),
        chart("From due to finished", log, Scale::Logarithmic, percentiles(|second| &second.meter.finish)),
        chart(
            "Jobs",
            "a second",
            Scale::Linear,
            [
                line("added", &|second| Some(second.meter.counts.added as f64)),
                line("finished", &|second| Some(second.meter.counts.finished as f64)),
            ],
        ),
        chart(
            "Errors",
            "a second",
            Scale::Linear,
            [line("errors", &|second| Some(second.meter.counts.failures() as f64))],
        ),
        chart("Processor", "processors in use", Scale::Linear, processors),
        chart("Memory", "MiB", Scale::Linear, used(|one| one.memory_bytes as f64 / 1_048_576.0)),
    ]
}

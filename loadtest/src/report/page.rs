//! The result as one page of HTML that needs nothing from outside.

use starling_charts::{Chart, Line, Scale, escape};

use super::sheet::{Sheet, chart, usage_lines};
use super::{Report, in_short, per_second, text};
use crate::measure::{Histogram, Observation, Second};

/// Percentiles of the percentile chart, each with its label.
const PERCENTILES: [(f64, &str); 7] = [
    (0.0, "0"),
    (50.0, "50"),
    (90.0, "90"),
    (99.0, "99"),
    (99.9, "99.9"),
    (99.99, "99.99"),
    (99.999, "99.999"),
];

/// The page.
pub fn page(report: &Report<'_>) -> String {
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
fn figures(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let (measured, seconds) = (&report.series.measured, report.series.measured_seconds);
    let counts = &measured.counts;
    let milliseconds = |time: Option<f64>| time.map_or("–".to_owned(), |time| format!("{time:.1} ms"));
    let peak = report.series.seconds.values().map(|second| second.sessions).max().unwrap_or(0);
    let mut figures = vec![
        ("sessions", peak.to_string()),
        ("messages a second", format!("{:.0}", per_second(counts.acknowledged, seconds))),
        ("deliveries a second", format!("{:.0}", per_second(counts.delivered, seconds))),
        ("delivery, p95", milliseconds(measured.delivery.percentile_ms(95.0))),
        ("delivery, p99", milliseconds(measured.delivery.percentile_ms(99.0))),
        ("lost · doubled", format!("{} · {}", counts.lost, counts.doubled)),
        ("errors", format!("{:.2} %", counts.errors_percent())),
    ];
    if let Some(rate) = report.highest_rate() {
        figures.insert(0, ("highest rate that passed", format!("{rate:.0}/s")));
    }
    if measured.resume.count() > 0 {
        figures.push(("resume, p99", milliseconds(measured.resume.percentile_ms(99.0))));
    }
    figures.into_iter().map(|(name, value)| (name, escape(&value))).collect()
}

fn charts(report: &Report<'_>) -> Vec<Chart<'static>> {
    let seconds = || report.series.seconds.iter().map(|(number, second)| (f64::from(*number), second));
    let line = |name: &str, value: &dyn Fn(&Second) -> Option<f64>| Line {
        name: name.to_owned(),
        points: seconds().filter_map(|(at, second)| Some((at, value(second)?))).collect(),
    };
    let count = |name, value: fn(&Second) -> u64| line(name, &|second| Some(value(second) as f64));
    let percentiles = |histogram: fn(&Second) -> &Histogram| {
        [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)]
            .map(|(name, percent)| line(name, &|second| histogram(second).percentile_ms(percent)))
    };
    let used = |value: fn(&Observation) -> f64| usage_lines(&report.series.observed, value);
    let failures = |second: &Second| second.meter.counts.failures();
    vec![
        chart(
            "Delivery time",
            "ms, logarithmic",
            Scale::Logarithmic,
            percentiles(|second| &second.meter.delivery),
        ),
        chart(
            "Acknowledgement time",
            "ms, logarithmic",
            Scale::Logarithmic,
            percentiles(|second| &second.meter.acknowledge),
        ),
        by_percentile(report),
        chart("Sessions", "", Scale::Linear, [line("connected", &|second| Some(second.sessions as f64))]),
        chart(
            "Messages",
            "a second",
            Scale::Linear,
            [
                count("sent", |second| second.meter.counts.sent),
                count("acknowledged", |second| second.meter.counts.acknowledged),
            ],
        ),
        chart(
            "Deliveries",
            "a second",
            Scale::Linear,
            [count("delivered", |second| second.meter.counts.delivered)],
        ),
        chart(
            "Errors and breaks",
            "a second",
            Scale::Linear,
            [
                line("errors", &|second| Some(failures(second) as f64)),
                count("connections that broke", |second| second.meter.counts.reconnects),
                count("sessions that resumed", |second| second.meter.counts.resumed),
            ],
        ),
        chart("Processor", "processors in use", Scale::Linear, {
            let mut lines = used(|one| one.processors);
            lines.push(line("busiest thread of the generator", &|second| Some(second.busy)));
            lines
        }),
        chart("Memory", "MiB", Scale::Linear, used(|one| one.memory_bytes as f64 / 1_048_576.0)),
    ]
}

/// Time by percentile. Each step to the right leaves a tenth of the slower ones.
fn by_percentile(report: &Report<'_>) -> Chart<'static> {
    let position = |percent: f64| -(1.0 - percent / 100.0).log10();
    let measured = &report.series.measured;
    let named = [
        ("delivery", &measured.delivery),
        ("acknowledgement", &measured.acknowledge),
        ("resume", &measured.resume),
    ];
    let lines = named.into_iter().filter(|(_, histogram)| histogram.count() > 0).map(|(name, histogram)| {
        // Beyond its last value a percentile says nothing.
        let last = (histogram.count() as f64).log10();
        let steps = (0..=100).map(|step| f64::from(step) / 20.0).take_while(|at| *at <= last);
        let points = steps.filter_map(|at| {
            let percent = 100.0 - 100.0 / 10_f64.powf(at);
            Some((at, histogram.percentile_ms(percent)?))
        });
        Line { name: name.to_owned(), points: points.collect() }
    });
    let lines: Vec<Line> = lines.collect();
    let right = lines.iter().flat_map(|line| line.points.iter()).map(|point| point.0).fold(0.0, f64::max);
    let labels = PERCENTILES.iter().map(|(percent, label)| (position(*percent), format!("{label} %")));
    Chart {
        title: "Times by percentile",
        unit: "ms, logarithmic",
        scale: Scale::Logarithmic,
        labels: labels.filter(|(at, _)| *at <= right).collect(),
        marks: Vec::new(),
        lines,
    }
}

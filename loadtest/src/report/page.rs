//! The result as one page of HTML that needs nothing from outside.

use std::fmt::Write;

use starling_charts::{Chart, Line, Scale, escape};

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
    let verdict = if report.passed() { ("passed", "Passed") } else { ("failed", "Failed") };
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} – Starling load test</title><style>{STYLE}{}</style><main><header><p class=\"kicker\">Starling load test</p>\
         <h1>{name} <span class=\"{}\">{}</span></h1><p>{}</p><p class=\"short\">{}</p></header>",
        starling_charts::STYLE,
        verdict.0,
        verdict.1,
        escape(&report.plan.scenario().about),
        escape(&in_short(report.plan.scenario())),
        name = escape(report.name),
    );
    for doubt in report.doubts() {
        let _ = write!(out, "<p class=\"doubt\">{}</p>", escape(&doubt));
    }
    out.push_str(&figures(report));
    out.push_str(&criteria(report));
    out.push_str("<section class=\"charts\">");
    for chart in charts(report) {
        out.push_str(&chart.html());
    }
    out.push_str("</section>");
    let scenario = toml::to_string_pretty(report.plan.scenario()).unwrap_or_default();
    let _ = write!(
        out,
        "<details><summary>All figures</summary><pre>{}</pre></details><details><summary>The scenario</summary><pre>{}</pre></details></main></html>",
        escape(&text(report, false)),
        escape(&scenario)
    );
    out
}

/// The figures that matter most, in large type.
fn figures(report: &Report<'_>) -> String {
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
    let cells =
        figures.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)));
    format!("<dl>{}</dl>", cells.collect::<String>())
}

fn criteria(report: &Report<'_>) -> String {
    if report.verdicts.is_empty() {
        return String::new();
    }
    let rows = report.verdicts.iter().map(|verdict| {
        let (class, word) = if verdict.passed { ("passed", "ok") } else { ("failed", "failed") };
        let measured = verdict.measured.map_or("not measured".to_owned(), |measured| format!("{measured:.2}"));
        format!(
            "<tr><td><code>{}</code><td class=\"number\">{}<td class=\"number\">{measured}<td class=\"{class}\">{word}",
            verdict.criterion, verdict.limit
        )
    });
    format!(
        "<table><thead><tr><th>Criterion<th class=\"number\">At most<th class=\"number\">Measured<th></thead><tbody>{}</tbody></table>",
        rows.collect::<String>()
    )
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
    let used = |name: &str, value: fn(&Observation) -> f64| -> Vec<Line> {
        let sources = report.series.observed.0.iter().map(|(source, seconds)| Line {
            name: format!("{source}{name}"),
            points: seconds.iter().map(|(at, one)| (f64::from(*at), value(one))).collect(),
        });
        sources.collect()
    };
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
            let mut lines = used("", |one| one.processors);
            lines.push(line("busiest thread of the generator", &|second| Some(second.busy)));
            lines
        }),
        chart("Memory", "MiB", Scale::Linear, used("", |one| one.memory_bytes as f64 / 1_048_576.0)),
    ]
}

fn chart(
    title: &'static str,
    unit: &'static str,
    scale: Scale,
    lines: impl IntoIterator<Item = Line>,
) -> Chart<'static> {
    Chart { title, unit, scale, labels: Vec::new(), marks: Vec::new(), lines: lines.into_iter().collect() }
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

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#16202b;--soft:#5d6b7a;--paper:#fff;--card:#f5f7f9;--mark:#f4c95d44;--rule:#dde3e9;--good:#1a7f4b;--bad:#b42318;
--c0:#2563eb;--c1:#d97706;--c2:#b91c1c;--c3:#0f766e;--c4:#7c3aed;--c5:#475569}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#93a1b0;--paper:#11171d;--card:#1a222b;--mark:#f4c95d2b;--rule:#2b3641;--good:#4ade80;--bad:#f87171;
--c0:#60a5fa;--c1:#fbbf24;--c2:#f87171;--c3:#2dd4bf;--c4:#a78bfa;--c5:#94a3b8}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 64px}h1{font-size:30px;margin:0 0 8px}.kicker{color:var(--soft);margin:0;font-size:14px}
h1 span{font-size:15px;font-weight:600;vertical-align:middle;padding:3px 10px;border-radius:999px;border:1px solid currentColor;margin-left:8px}
header p{margin:0}.short{color:var(--soft);font-weight:400}.passed{color:var(--good)}.failed{color:var(--bad)}
.doubt{border-left:4px solid var(--c1);background:var(--card);padding:10px 14px;margin:20px 0 0}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:24px 0}
dl div{background:var(--card);border-radius:10px;padding:12px 16px}dt{color:var(--soft);font-size:13px}dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}
table{border-collapse:collapse;width:100%;margin:0 0 24px}th,td{text-align:left;padding:6px 12px;border-bottom:1px solid var(--rule)}th{color:var(--soft);font-weight:500;font-size:13px}
.number{text-align:right;font-variant-numeric:tabular-nums}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:20px}
details{margin-top:20px}summary{cursor:pointer;color:var(--soft)}pre{overflow:auto;background:var(--card);border-radius:10px;padding:14px 16px;font-size:13px}";

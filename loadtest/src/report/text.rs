//! The result for the terminal.

use std::fmt::Write;

use super::{Report, in_short, per_second};
use crate::measure::{Histogram, Observed, Verdict};

/// The result in a few lines. With `colour` the verdicts are coloured.
pub fn text(report: &Report<'_>, colour: bool) -> String {
    let (measured, seconds) = (&report.series.measured, report.series.measured_seconds);
    let counts = &measured.counts;
    let mut out = format!(
        "{}: {}\n{}\n\n",
        report.name,
        report.plan.scenario().about,
        in_short(report.plan.scenario())
    );
    let mut row = |name: &str, value: String| out.push_str(&format!("  {name:<14} {value}\n"));
    let rate = |count| format!("{count:>10}   {:.1} a second", per_second(count, seconds));
    row("sent", rate(counts.sent));
    row("acknowledged", rate(counts.acknowledged));
    row("delivered", rate(counts.delivered));
    row("lost", format!("{:>10}   doubled {}, reordered {}", counts.lost, counts.doubled, counts.reordered));
    row(
        "connections",
        format!(
            "{:>10}   broken {}, resumed {}, moved {}",
            connected(report),
            counts.reconnects,
            counts.resumed,
            counts.moved
        ),
    );
    row("errors", format!("{:>10}   {:.2} %", counts.failures(), counts.errors_percent()));
    for (name, count) in counts.errors.iter().chain(&counts.notes) {
        let _ = writeln!(out, "                 {count:>10} × {name}");
    }
    let _ = writeln!(
        out,
        "\n  {:<14} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "milliseconds", "p50", "p95", "p99", "p99.9", "longest"
    );
    let tables = [
        ("connect", &report.series.connect()),
        ("acknowledge", &measured.acknowledge),
        ("delivery", &measured.delivery),
        ("resume", &measured.resume),
    ];
    for (name, histogram) in tables {
        if histogram.count() > 0 {
            let _ = writeln!(out, "  {name:<14} {}", percentiles(histogram));
        }
    }
    let is_measured = |number: u32| {
        report.series.seconds.get(&number).is_some_and(|second| report.plan.is_measured(second.stage))
    };
    out.push_str(&usage(
        &report.series.observed,
        is_measured,
        "message",
        per_second(counts.acknowledged, seconds),
    ));
    out.push('\n');
    for verdict in &report.verdicts {
        let _ = writeln!(out, "  {}", verdict_line(verdict, colour));
    }
    if report.plan.scenario().growth.is_some() {
        let line = match report.highest_rate() {
            Some(rate) => format!(
                "{rate:.0} messages a second met the criteria; the next rate did not, or there was none"
            ),
            None => "not even the first rate met the criteria".to_owned(),
        };
        let _ = writeln!(out, "  {line}");
    }
    for doubt in report.doubts() {
        let _ = writeln!(out, "\n  {doubt}");
    }
    out
}

fn connected(report: &Report<'_>) -> u64 {
    report.series.seconds.values().map(|second| second.meter.counts.connected).sum()
}

fn percentiles(histogram: &Histogram) -> String {
    let at = |percent| histogram.percentile_ms(percent).unwrap_or(0.0);
    format!(
        "{:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
        at(50.0),
        at(95.0),
        at(99.0),
        at(99.9),
        histogram.max_ms().unwrap_or(0.0)
    )
}

/// What the servers used in the measured seconds. `rate`: how many of `unit` there were a second.
pub fn usage(observed: &Observed, is_measured: impl Fn(u32) -> bool, unit: &str, rate: f64) -> String {
    let mut out = String::new();
    if observed.0.is_empty() {
        return out;
    }
    let per = format!("µs a {unit}");
    let _ = writeln!(out, "\n  {:<14} {:>9} {:>12} {per:>14}", "used", "processors", "memory");
    for (name, seconds) in &observed.0 {
        let (mut sum, mut count, mut memory) = (0.0, 0_u32, 0);
        for (_, one) in seconds.iter().filter(|(number, _)| is_measured(**number)) {
            sum += one.processors;
            count += 1;
            memory = memory.max(one.memory_bytes);
        }
        let mean = sum / f64::from(count.max(1));
        let cost = if rate > 0.0 { format!("{:.1}", mean * 1e6 / rate) } else { "–".to_owned() };
        let _ = writeln!(out, "  {name:<14} {mean:>9.2} {:>9.1} MiB {cost:>14}", memory as f64 / 1_048_576.0);
    }
    out
}

/// A criterion, and how it turned out.
pub fn verdict_line(verdict: &Verdict, colour: bool) -> String {
    let word = if verdict.passed { "ok    " } else { "failed" };
    let word = match (colour, verdict.passed) {
        (false, _) => word.to_owned(),
        (true, true) => format!("\x1b[32m{word}\x1b[0m"),
        (true, false) => format!("\x1b[31m{word}\x1b[0m"),
    };
    let measured = match verdict.measured {
        Some(measured) => format!("{measured:.2}"),
        None if verdict.passed => "not checked: name the nodes with --process or --metrics".to_owned(),
        None => "not measured: nothing of that kind happened".to_owned(),
    };
    format!("{word} {:<22} at most {:<8} {measured}", verdict.criterion, verdict.limit)
}

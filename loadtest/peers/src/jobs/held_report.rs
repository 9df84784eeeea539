//! The result of claims under a held snapshot.

use std::fmt::Write;

use super::held::{Held, Slice};
use crate::report::Table;
use crate::svg::number;

/// How much slower the slowest hundredth of claims may be while the snapshot is held.
const FACTOR_MAX: f64 = 2.0;
/// When claims must be as before again, after the snapshot was released.
const NORMAL_AFTER_SECONDS: f64 = 60.0;

/// A slice in one line.
pub fn line(slice: &Slice) -> String {
    format!(
        "{:<8} {:>6.0} s to {:>6.0} s: {:>6.0} jobs/s, claim p50 {:>6.2} p99 {:>7.2} ms, look p99 {:>7.2}, finish p99 {:>7.2}, add p99 {:>7.2}, begun after p99 {:>7.2} ms",
        slice.phase,
        slice.from_seconds,
        slice.to_seconds,
        rate(slice),
        slice.claim.p50_ms,
        slice.claim.p99_ms,
        slice.look.p99_ms,
        slice.finish.p99_ms,
        slice.add.p99_ms,
        slice.begun.p99_ms,
    )
}

fn rate(slice: &Slice) -> f64 {
    slice.jobs as f64 / (slice.to_seconds - slice.from_seconds).max(0.001)
}

/// The claims' p99 of a phase: of its slices the highest, of those that begin at `from_seconds` or later.
fn p99(held: &Held, phase: &str, from_seconds: f64) -> Option<f64> {
    let slices =
        held.slices.iter().filter(|slice| slice.phase == phase && slice.from_seconds >= from_seconds);
    slices.map(|slice| slice.claim.p99_ms).reduce(f64::max)
}

/// Tables and verdicts in Markdown.
pub fn markdown(held: &Held) -> String {
    let head = [
        "phase",
        "seconds",
        "jobs a second",
        "claim p50 ms",
        "claim p99 ms",
        "look p99 ms",
        "finish p99 ms",
        "add p99 ms",
    ];
    let row = |slice: &Slice| {
        vec![
            slice.phase.clone(),
            format!("{:.0}–{:.0}", slice.from_seconds, slice.to_seconds),
            number(rate(slice)),
            number(slice.claim.p50_ms),
            number(slice.claim.p99_ms),
            number(slice.look.p99_ms),
            number(slice.finish.p99_ms),
            number(slice.add.p99_ms),
        ]
    };
    let rows = held.slices.iter().filter(|slice| slice.phase != "warm-up").map(row).collect();
    let table = Table { head: head.map(str::to_owned).to_vec(), rows };
    let mut out = format!(
        "{} jobs a second; a snapshot held for {:.0} s. {}, on {}.\n\n{}\n",
        number(held.rate),
        held.hold_seconds,
        held.about.date,
        held.about.machine,
        table.markdown()
    );
    let before = p99(held, "before", 0.0);
    let phases = [
        ("During", p99(held, "during", 0.0), FACTOR_MAX),
        ("60 s after", p99(held, "after", NORMAL_AFTER_SECONDS), FACTOR_MAX),
    ];
    for (name, p99, goal) in phases {
        if let Some((p99, before)) = p99.zip(before).filter(|(_, before)| *before > 0.0) {
            let factor = p99 / before;
            let met = if factor <= goal { "met" } else { "missed" };
            let _ = writeln!(
                out,
                "{name}: claim p99 {} ms, {} × before (goal: at most {goal} ×): {met}.",
                number(p99),
                number(factor)
            );
        }
    }
    let _ = writeln!(out, "Jobs left at the end: {}.", held.left);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::held::Figures;

    #[test]
    fn the_highest_slice_of_a_phase_is_compared_with_the_one_before() {
        let slice = |phase: &str, from_seconds, p99_ms| Slice {
            phase: phase.to_owned(),
            from_seconds,
            to_seconds: from_seconds + 60.0,
            jobs: 30_000,
            claim: Figures { p99_ms, ..Figures::default() },
            ..Slice::default()
        };
        let slices = vec![
            slice("before", 0.0, 4.0),
            slice("during", 0.0, 5.0),
            slice("during", 60.0, 10.0),
            slice("after", 0.0, 90.0),
            slice("after", 60.0, 6.0),
        ];
        let text = markdown(&Held { slices, rate: 500.0, ..Held::default() });
        assert!(
            text.contains("During: claim p99 10 ms, 2.5 × before (goal: at most 2 ×): missed."),
            "{text}"
        );
        assert!(
            text.contains("60 s after: claim p99 6 ms, 1.5 × before (goal: at most 2 ×): met."),
            "{text}"
        );
        assert!(text.contains("| during | 60–120 | 500 |"), "{text}");
    }
}

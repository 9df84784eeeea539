//! Results: what was run, where, and what it gave. They are kept as JSON, from which every page is made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use starling_peers_load::{Outcome, Pace};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::peer::Peer;
use crate::scenario::Scenario;

/// Share of its core from which the generator was the limit of a run that goes as fast as it can.
const GENERATOR_SHARE_MAX: f64 = 0.9;
/// Lateness of the generator from which a steady run does not count.
const LATE_MAX_MS: f64 = 10.0;

/// Where and when something was measured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct About {
    /// The day.
    pub date: String,
    /// The processor and the system.
    pub machine: String,
    /// Seconds that count in each run.
    pub seconds: f64,
    /// How often each run was repeated.
    pub repetitions: u32,
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Comparison {
    /// Where and when.
    pub about: About,
    /// All runs, in their order.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Run {
    /// Whose nodes.
    pub peer: Peer,
    /// In what.
    pub scenario: Scenario,
    /// The number of the repetition.
    pub repetition: u32,
    /// Why it does not count, if it does not.
    pub fault: Option<String>,
    /// Whether the generator was the limit: the rate does not count then, but the costs do.
    pub generator_was_limit: bool,
    /// What was measured.
    pub outcome: Outcome,
}

/// The growth of costs with one quantity.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Growth {
    /// Where and when.
    pub about: About,
    /// The measured points.
    pub points: Vec<Point>,
}

/// A point of a growth chart.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Point {
    /// What grows.
    pub study: String,
    /// The line that it belongs to.
    pub line: String,
    /// How much of it there is.
    pub amount: f64,
    /// Why it does not count, if it does not.
    pub fault: Option<String>,
    /// Named figures.
    pub figures: std::collections::BTreeMap<String, f64>,
}

impl About {
    /// This machine, now.
    pub fn here(seconds: f64, repetitions: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        let date = now.format(format_description!("[year]-[month]-[day]")).unwrap_or_default();
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let processor = processor.map_or("an unknown processor", |(_, name)| name);
        let cores = info.lines().filter(|line| line.starts_with("processor")).count();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().trim();
        let gib = memory / 1024.0 / 1024.0;
        let machine = format!("{cores} cores of {processor}, {gib:.0} GiB, Linux {kernel}");
        Self { date, machine, seconds, repetitions }
    }
}

/// Why an outcome does not count, if it does not: something was lost, doubled or refused, or the generator was late.
pub fn fault(outcome: &Outcome) -> Option<String> {
    let counted = [
        (outcome.dropped, "connections dropped"),
        (outcome.lost, "deliveries lost"),
        (outcome.extra, "deliveries too many"),
        (outcome.errors, "errors"),
    ];
    if let Some((count, what)) = counted.iter().find(|(count, _)| *count > 0) {
        let said = outcome.refusal.as_deref().or(outcome.error.as_deref()).unwrap_or_default();
        return Some(format!("{count} {what} {said}").trim_end().to_owned());
    }
    let late = outcome.late_p99_ms.filter(|late| *late > LATE_MAX_MS)?;
    Some(format!("the generator sent up to {late:.0} ms late"))
}

impl Run {
    /// Judges an outcome.
    pub fn new(peer: Peer, scenario: Scenario, repetition: u32, outcome: Outcome) -> Self {
        let saturates = matches!(scenario.pace(), Pace::Outstanding(_));
        let generator_was_limit = saturates && outcome.generator_share() > GENERATOR_SHARE_MAX;
        Self { peer, scenario, repetition, fault: fault(&outcome), generator_was_limit, outcome }
    }
}

impl Comparison {
    /// The scenarios that were run, in their order.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let mut all: Vec<Scenario> = self.runs.iter().map(|run| run.scenario).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The servers that ran in this scenario, in their order.
    pub fn peers(&self, scenario: Scenario) -> Vec<Peer> {
        let runs = self.runs.iter().filter(|run| run.scenario == scenario);
        let mut all: Vec<Peer> = runs.map(|run| run.peer).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The runs that count.
    pub fn counting(&self, peer: Peer, scenario: Scenario) -> Vec<&Run> {
        let all = self.runs.iter();
        all.filter(|run| run.peer == peer && run.scenario == scenario && run.fault.is_none()).collect()
    }

    /// The median of a figure over the runs that count.
    pub fn median(&self, peer: Peer, scenario: Scenario, figure: impl Fn(&Outcome) -> f64) -> Option<f64> {
        median(self.counting(peer, scenario).iter().map(|run| figure(&run.outcome)).collect())
    }
}

/// The middle one of some values; the mean of the two middle ones of an even number.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((upper + values[middle - 1]) / 2.0) }
}

/// Reads results.
///
/// # Errors
/// When the file is missing or holds something else.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Where results of this name are kept beside the code.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{name}.json"))
}

/// The results of this name that are kept, if there are any.
///
/// # Errors
/// When the file holds something else.
pub fn kept<T: serde::de::DeserializeOwned>(name: &str) -> Result<Option<T>> {
    let place = place(name);
    if place.exists() { read(&place).map(Some) } else { Ok(None) }
}

/// Writes results.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, results: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(results)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_loses_refuses_or_drops_something_does_not_count() {
        let good = Outcome { seconds: 1.0, delivered: 10, ..Outcome::default() };
        assert_eq!(fault(&good), None);
        for (bad, named) in [
            (Outcome { lost: 1, ..good.clone() }, "lost"),
            (Outcome { extra: 1, ..good.clone() }, "too many"),
            (Outcome { dropped: 2, refusal: Some("503".into()), ..good.clone() }, "503"),
            (Outcome { errors: 1, ..good.clone() }, "errors"),
            (Outcome { late_p99_ms: Some(50.0), ..good.clone() }, "late"),
        ] {
            assert!(fault(&bad).is_some_and(|fault| fault.contains(named)), "{bad:?}");
        }
        let busy = Outcome { generator_us: 950_000.0, ..good };
        assert!(Run::new(Peer::Limit, Scenario::FanOut, 0, busy.clone()).generator_was_limit);
        assert!(!Run::new(Peer::Limit, Scenario::FanOutSteady, 0, busy).generator_was_limit);
    }

    #[test]
    fn the_median_leaves_out_what_does_not_count() {
        let run = |seconds, lost| {
            let outcome = Outcome { seconds, lost, ..Outcome::default() };
            Run::new(Peer::Nats, Scenario::Rooms, 0, outcome)
        };
        let runs = vec![run(1.0, 0), run(9.0, 3), run(2.0, 0), run(6.0, 0)];
        let comparison = Comparison { runs, ..Comparison::default() };
        assert_eq!(comparison.median(Peer::Nats, Scenario::Rooms, |outcome| outcome.seconds), Some(2.0));
        assert_eq!(comparison.median(Peer::Nats, Scenario::Idle, |outcome| outcome.seconds), None);
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}

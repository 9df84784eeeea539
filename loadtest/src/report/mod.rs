//! The result of a run: as text for the terminal, as JSON for programs, and as a page with charts.

mod page;
mod sheet;
mod text;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub use page::page;
pub(crate) use sheet::{Sheet, chart, usage_lines};
pub use text::text;
pub(crate) use text::{usage, verdict_line};

use crate::measure::{Histogram, Meter, Series, Verdict};
use crate::run::Plan;
use crate::scenario::Scenario;

/// Share of a processor from which a thread of the generator counts as busy.
pub(crate) const BUSY: f64 = 0.85;
/// Lateness of the generator, in milliseconds, from which its times are doubtful.
pub(crate) const LATE_MS: f64 = 10.0;

/// The result of a run.
#[derive(Debug)]
pub struct Report<'a> {
    /// The name of the scenario.
    pub name: &'a str,
    /// What ran.
    pub plan: &'a Plan,
    /// What was measured.
    pub series: &'a Series,
    /// How each criterion turned out.
    pub verdicts: Vec<Verdict>,
}

/// Percentiles of a histogram, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    count: u64,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl From<&Histogram> for Percentiles {
    fn from(histogram: &Histogram) -> Self {
        let at = |percent| histogram.percentile_ms(percent);
        Self {
            count: histogram.count(),
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p95_ms: at(95.0),
            p99_ms: at(99.0),
            p999_ms: at(99.9),
            max_ms: histogram.max_ms(),
        }
    }
}

impl<'a> Report<'a> {
    /// Judges a run.
    pub fn new(name: &'a str, plan: &'a Plan, series: &'a Series) -> Self {
        let verdicts = if plan.scenario().growth.is_some() {
            Vec::new()
        } else {
            plan.scenario().pass.verdicts(&series.measured, Some(&series.observed))
        };
        Self { name, plan, series, verdicts }
    }

    /// Whether the run meets its criteria. A growing run does if its first rate does.
    pub fn passed(&self) -> bool {
        match self.plan.scenario().growth {
            Some(_) => self.highest_rate().is_some(),
            None => self.verdicts.iter().all(|verdict| verdict.passed),
        }
    }

    /// The rate of the last stage that met the criteria, in a growing run.
    pub fn highest_rate(&self) -> Option<f64> {
        self.plan.scenario().growth.as_ref()?;
        let measured = self.series.stages.iter().filter(|(_, result)| result.measured);
        let passed = measured.take_while(|(_, result)| self.plan.passes(&result.meter));
        let last = passed.last().and_then(|(index, _)| self.plan.stages().get(*index));
        last.map(|stage| stage.stage().messages_per_second)
    }

    /// Reasons to doubt the measurement: the generator itself was too slow.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let seconds = self.series.seconds.values().filter(|second| self.plan.is_measured(second.stage));
        let busy: Vec<f64> = seconds.map(|second| second.busy).collect();
        let over = busy.iter().filter(|busy| **busy > BUSY).count();
        if over * 10 > busy.len() {
            doubts.push(format!(
                "A thread of the generator was more than {:.0} % busy in {over} of {} seconds: the generator was the limit, not \
                 Starling. Give it more threads or another machine.",
                BUSY * 100.0,
                busy.len()
            ));
        }
        let late = self.series.measured.lateness.percentile_ms(99.0).unwrap_or(0.0);
        if late > LATE_MS {
            doubts.push(format!(
                "The generator sent its messages up to {late:.1} ms late (p99). Times count from when a message was due, so they \
                 include that."
            ));
        }
        doubts
    }

    /// The result as JSON.
    pub fn json(&self) -> Value {
        json!({
            "scenario": self.name,
            "settings": self.plan.scenario(),
            "passed": self.passed(),
            "criteria": self.verdicts,
            "highest_rate": self.highest_rate(),
            "doubts": self.doubts(),
            "measured_seconds": self.series.measured_seconds,
            "measured": measured(&self.series.measured),
            "stages": self.series.stages.iter().map(|(index, result)| json!({
                "stage": index,
                "seconds": result.seconds,
                "measured": result.measured,
                "messages_per_second": self.plan.stages().get(*index).map(|stage| stage.stage().messages_per_second),
                "result": measured(&result.meter),
            })).collect::<Vec<_>>(),
            "seconds": self.series.seconds.iter().map(|(number, second)| json!({
                "second": number,
                "stage": second.stage,
                "sessions": second.sessions,
                "generator_busy": second.busy,
                "result": measured(&second.meter),
            })).collect::<Vec<_>>(),
            "observed": self.series.observed,
        })
    }
}

fn measured(meter: &Meter) -> Value {
    json!({
        "counts": meter.counts,
        "errors_percent": meter.counts.errors_percent(),
        "connect": Percentiles::from(&meter.connect),
        "acknowledge": Percentiles::from(&meter.acknowledge),
        "delivery": Percentiles::from(&meter.delivery),
        "resume": Percentiles::from(&meter.resume),
        "lateness": Percentiles::from(&meter.lateness),
    })
}

/// A number of events per second.
fn per_second(count: u64, seconds: u32) -> f64 {
    count as f64 / f64::from(seconds.max(1))
}

/// What a scenario is, in a few words.
fn in_short(scenario: &Scenario) -> String {
    let time = Duration::from_secs(scenario.duration().as_secs());
    format!("{} sessions at most, {time:?}", scenario.sessions_max())
}

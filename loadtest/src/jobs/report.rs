//! The result of a run of jobs.

use serde_json::{Value, json};

use super::{JobMeter, JobPlan, JobSeries};
use crate::measure::Verdict;
use crate::report::{BUSY, LATE_MS, Percentiles};

/// The result of a run.
#[derive(Debug)]
pub struct JobReport<'a> {
    /// The name of the scenario.
    pub name: &'a str,
    /// What ran.
    pub plan: &'a JobPlan,
    /// What was measured.
    pub series: &'a JobSeries,
    /// How each criterion turned out.
    pub verdicts: Vec<Verdict>,
}

impl<'a> JobReport<'a> {
    /// Judges a run.
    pub fn new(name: &'a str, plan: &'a JobPlan, series: &'a JobSeries) -> Self {
        Self { name, plan, series, verdicts: plan.scenario().pass.verdicts(&series.measured) }
    }

    /// Whether the run meets its criteria.
    pub fn passed(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.passed)
    }

    /// Events of this number as a rate.
    pub(super) fn per_second(&self, count: u64) -> f64 {
        count as f64 / f64::from(self.series.measured_seconds.max(1))
    }

    /// Reasons to doubt the measurement: the generator itself was too slow.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let seconds = self.series.seconds.iter().filter(|(number, _)| self.plan.is_measured(**number));
        let busy: Vec<f64> = seconds.map(|(_, second)| second.busy).collect();
        let over = busy.iter().filter(|busy| **busy > BUSY).count();
        if over * 10 > busy.len() {
            doubts.push(format!(
                "The generator used more than {:.0} % of its threads in {over} of {} seconds: it was the limit, not Starling. Give it \
                 more threads or another machine.",
                BUSY * 100.0,
                busy.len()
            ));
        }
        let late = self.series.measured.lateness.percentile_ms(99.0).unwrap_or(0.0);
        if late > LATE_MS {
            doubts.push(format!(
                "The generator sent its jobs up to {late:.1} ms late (p99). Times count from when a job was due, so they include \
                 that. More `jobs.adders` may help."
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
            "doubts": self.doubts(),
            "measured_seconds": self.series.measured_seconds,
            "finished_per_second": self.per_second(self.series.measured.counts.finished),
            "measured": measured(&self.series.measured),
            "seconds": self.series.seconds.iter().map(|(number, second)| json!({
                "second": number,
                "generator_busy": second.busy,
                "result": measured(&second.meter),
            })).collect::<Vec<_>>(),
            "observed": self.series.observed,
        })
    }
}

fn measured(meter: &JobMeter) -> Value {
    json!({
        "counts": meter.counts,
        "errors_percent": meter.counts.errors_percent(),
        "add": Percentiles::from(&meter.add),
        "start": Percentiles::from(&meter.start),
        "finish": Percentiles::from(&meter.finish),
        "lateness": Percentiles::from(&meter.lateness),
    })
}

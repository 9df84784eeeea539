//! What a run of jobs must reach to pass.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::JobMeter;
use crate::measure::Verdict;

/// What a run must reach. A criterion that is not set is not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobCriteria {
    /// From when a job was due until a worker had it, in the slower half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_p50_ms: Option<f64>,
    /// The same, in the slowest hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_p99_ms: Option<f64>,
    /// From when a job was due until it was acknowledged, in the slowest hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_p99_ms: Option<f64>,
    /// Failures among all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_percent: Option<f64>,
    /// Jobs that were acknowledged and never finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Jobs that were finished twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubled: Option<u64>,
}

impl JobCriteria {
    /// Checks the limits themselves.
    ///
    /// # Errors
    /// When one is negative. The message names its key.
    pub fn check(&self) -> Result<()> {
        for (key, limit, _) in self.limits(&JobMeter::default()) {
            ensure!(limit.is_finite() && limit >= 0.0, "pass.{key}: must not be negative");
        }
        Ok(())
    }

    /// Compares measurements with the limits. What was not measured fails.
    pub fn verdicts(&self, meter: &JobMeter) -> Vec<Verdict> {
        let limits = self.limits(meter).into_iter();
        let verdicts = limits.map(|(criterion, limit, measured)| Verdict {
            criterion,
            limit,
            measured,
            passed: measured.is_some_and(|measured| measured <= limit),
        });
        verdicts.collect()
    }

    /// The criteria that are set: key, limit, measurement.
    fn limits(&self, meter: &JobMeter) -> Vec<(&'static str, f64, Option<f64>)> {
        let (count, counts) = (|limit: Option<u64>| limit.map(|limit| limit as f64), &meter.counts);
        let all = [
            ("start_p50_ms", self.start_p50_ms, meter.start.percentile_ms(50.0)),
            ("start_p99_ms", self.start_p99_ms, meter.start.percentile_ms(99.0)),
            ("add_p99_ms", self.add_p99_ms, meter.add.percentile_ms(99.0)),
            ("errors_percent", self.errors_percent, Some(counts.errors_percent())),
            ("lost", count(self.lost), Some(counts.lost as f64)),
            ("doubled", count(self.doubled), Some(counts.doubled as f64)),
        ];
        all.into_iter().filter_map(|(key, limit, measured)| Some((key, limit?, measured))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_its_limit_or_was_not_measured_fails() {
        let criteria = JobCriteria { start_p99_ms: Some(10.0), lost: Some(0), ..JobCriteria::default() };
        let passed = |meter: &JobMeter| -> Vec<bool> {
            criteria.verdicts(meter).iter().map(|verdict| verdict.passed).collect()
        };
        let mut meter = JobMeter::default();
        assert_eq!(passed(&meter), [false, true], "no job was begun");
        meter.start.record(9_000);
        assert_eq!(passed(&meter), [true, true]);
        meter.start.record(30_000);
        meter.counts.lost = 1;
        assert_eq!(passed(&meter), [false, false]);
    }
}

//! What a run must reach to pass.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Histogram, Meter, Observed};

/// What a run must reach. A criterion that is not set is not checked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Criteria {
    /// Connecting and joining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_p95_ms: Option<f64>,
    /// Acknowledgement, in the slowest twentieth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge_p95_ms: Option<f64>,
    /// Acknowledgement, in the slowest hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledge_p99_ms: Option<f64>,
    /// Delivery, in the slower half.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_p50_ms: Option<f64>,
    /// Delivery, in the slowest twentieth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_p95_ms: Option<f64>,
    /// Delivery, in the slowest hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_p99_ms: Option<f64>,
    /// Resuming after a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_p99_ms: Option<f64>,
    /// Failures among all that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_percent: Option<f64>,
    /// Messages that a receiver never got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Messages that a receiver got twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubled: Option<u64>,
    /// Connections that ended unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects: Option<u64>,
    /// How much more memory the nodes use in the last tenth of the run than in its second tenth. Needs `--process` or `--metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_growth_percent: Option<f64>,
    /// Seconds in which a pool of database connections had none left. Needs `--metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools_exhausted: Option<u64>,
}

/// How a criterion turned out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Its key in the scenario.
    pub criterion: &'static str,
    /// What it allows at most.
    pub limit: f64,
    /// What was measured; nothing if that was not possible.
    pub measured: Option<f64>,
    /// Whether it is met. A criterion without a measurement is met only if its measurement needs an option that was not given.
    pub passed: bool,
}

impl Criteria {
    /// Checks the limits themselves.
    ///
    /// # Errors
    /// When one is negative. The message names its key.
    pub fn check(&self) -> Result<()> {
        for (key, limit) in self.limits() {
            ensure!(limit.is_finite() && limit >= 0.0, "pass.{key}: must not be negative");
        }
        Ok(())
    }

    /// Compares measurements with the limits.
    pub fn verdicts(&self, meter: &Meter, observed: Option<&Observed>) -> Vec<Verdict> {
        let limits = self.limits().into_iter();
        let verdicts = limits.map(|(criterion, limit)| {
            let (measured, optional) = measure(criterion, meter, observed);
            let passed = measured.map_or(optional, |measured| measured <= limit);
            Verdict { criterion, limit, measured, passed }
        });
        verdicts.collect()
    }

    fn limits(&self) -> Vec<(&'static str, f64)> {
        let count = |limit: Option<u64>| limit.map(|limit| limit as f64);
        let all = [
            ("connect_p95_ms", self.connect_p95_ms),
            ("acknowledge_p95_ms", self.acknowledge_p95_ms),
            ("acknowledge_p99_ms", self.acknowledge_p99_ms),
            ("delivery_p50_ms", self.delivery_p50_ms),
            ("delivery_p95_ms", self.delivery_p95_ms),
            ("delivery_p99_ms", self.delivery_p99_ms),
            ("resume_p99_ms", self.resume_p99_ms),
            ("errors_percent", self.errors_percent),
            ("lost", count(self.lost)),
            ("doubled", count(self.doubled)),
            ("reconnects", count(self.reconnects)),
            ("memory_growth_percent", self.memory_growth_percent),
            ("pools_exhausted", count(self.pools_exhausted)),
        ];
        all.into_iter().filter_map(|(key, limit)| Some((key, limit?))).collect()
    }
}

/// The measurement for a criterion, and whether it needs an option that may be missing.
fn measure(criterion: &str, meter: &Meter, observed: Option<&Observed>) -> (Option<f64>, bool) {
    let percentile = |histogram: &Histogram, percent| (histogram.percentile_ms(percent), false);
    let counts = &meter.counts;
    match criterion {
        "connect_p95_ms" => percentile(&meter.connect, 95.0),
        "acknowledge_p95_ms" => percentile(&meter.acknowledge, 95.0),
        "acknowledge_p99_ms" => percentile(&meter.acknowledge, 99.0),
        "delivery_p50_ms" => percentile(&meter.delivery, 50.0),
        "delivery_p95_ms" => percentile(&meter.delivery, 95.0),
        "delivery_p99_ms" => percentile(&meter.delivery, 99.0),
        "resume_p99_ms" => percentile(&meter.resume, 99.0),
        "errors_percent" => (Some(counts.errors_percent()), false),
        "lost" => (Some(counts.lost.max(0) as f64), false),
        "doubled" => (Some(counts.doubled as f64), false),
        "reconnects" => (Some(counts.reconnects as f64), false),
        "memory_growth_percent" => (observed.and_then(Observed::memory_growth_percent), true),
        "pools_exhausted" => {
            (observed.and_then(Observed::pools_exhausted).map(|seconds| seconds as f64), true)
        }
        _ => (None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_exceeded_or_not_measured_fails() {
        let criteria = Criteria {
            delivery_p95_ms: Some(10.0),
            lost: Some(0),
            errors_percent: Some(1.0),
            memory_growth_percent: Some(5.0),
            ..Criteria::default()
        };
        let mut meter = Meter::default();
        let passed = |meter: &Meter| -> Vec<bool> {
            criteria.verdicts(meter, None).iter().map(|verdict| verdict.passed).collect()
        };
        // Nothing was delivered, so the delivery was not measured: that is no success.
        assert_eq!(passed(&meter), [false, true, true, true]);
        meter.delivered(9_000);
        assert_eq!(passed(&meter), [true, true, true, true]);
        meter.missing(1);
        meter.error("unavailable");
        for _ in 0..10 {
            meter.delivered(30_000);
        }
        assert_eq!(passed(&meter), [false, false, false, true]);
    }
}

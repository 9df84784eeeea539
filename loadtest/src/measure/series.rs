//! A run second by second, and its sums.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Histogram, Meter, Observed};

/// One second of the run.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// What all threads measured.
    pub meter: Meter,
    /// Sessions that are connected at its end.
    pub sessions: usize,
    /// How busy the busiest thread of the generator was, 0 to 1.
    pub busy: f64,
    /// The stage that the run is in.
    pub stage: usize,
}

/// The result of one stage.
#[derive(Clone, Debug, Default)]
pub struct StageResult {
    /// What all threads measured during the stage.
    pub meter: Meter,
    /// How many seconds it took.
    pub seconds: u32,
    /// Whether it counts for the criteria.
    pub measured: bool,
}

/// All that a run measured.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Each second, by its number after the start.
    pub seconds: BTreeMap<u32, Second>,
    /// Each stage, by its position.
    pub stages: BTreeMap<usize, StageResult>,
    /// The measured stages together.
    pub measured: Meter,
    /// How many seconds the measured stages took.
    pub measured_seconds: u32,
    /// What the servers used.
    pub observed: Observed,
}

impl Series {
    /// The times to connect, of all stages: most sessions connect in stages that are not measured otherwise.
    pub fn connect(&self) -> Histogram {
        let mut all = Histogram::default();
        for stage in self.stages.values() {
            // All histograms have the same bounds.
            let _ = all.add(&stage.meter.connect);
        }
        all
    }

    /// Adds what one thread measured in a second.
    ///
    /// # Errors
    /// Never: all histograms have the same bounds.
    pub fn add(&mut self, number: u32, second: &Second, measured: bool) -> Result<()> {
        let into = self.seconds.entry(number).or_default();
        let first = into.stage == 0 && into.sessions == 0 && into.meter.counts == super::Counts::default();
        into.meter.add(&second.meter)?;
        into.sessions += second.sessions;
        into.busy = into.busy.max(second.busy);
        into.stage = second.stage;
        let stage = self.stages.entry(second.stage).or_default();
        stage.meter.add(&second.meter)?;
        stage.measured = measured;
        if first {
            stage.seconds += 1;
        }
        if measured {
            self.measured.add(&second.meter)?;
            if first {
                self.measured_seconds += 1;
            }
        }
        Ok(())
    }
}

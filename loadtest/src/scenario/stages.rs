//! The course of a run: how many sessions and messages there are at each moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Growth;

/// The highest rate that a stage may have, messages per second.
const RATE_MAX: f64 = 10_000_000.0;

/// A part of a run. Sessions and rate change evenly from what they were at its start to what it names.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How long it lasts.
    pub seconds: u32,
    /// Sessions at its end.
    pub sessions: usize,
    /// Messages per second of all sessions together, at its end.
    #[serde(default)]
    pub messages_per_second: f64,
    /// Whether the rate jumps at the start of the stage rather than growing evenly.
    #[serde(default)]
    pub at_once: bool,
    /// Whether its measurements count for the criteria. A stage that warms up does not.
    #[serde(default = "yes")]
    pub measured: bool,
}

fn yes() -> bool {
    true
}

impl Stage {
    /// How long it lasts.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.seconds > 0, "stages.seconds: must not be 0");
        let rate = self.messages_per_second;
        ensure!((0.0..=RATE_MAX).contains(&rate), "stages.messages_per_second: must be 0 to {RATE_MAX}");
        Ok(())
    }
}

impl Growth {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.factor > 1.0 && self.factor <= 100.0, "growth.factor: must be above 1, at most 100");
        ensure!(self.stage_seconds >= 5, "growth.stage_seconds: must be at least 5");
        let (from, to) = (self.from_messages_per_second, self.to_messages_per_second);
        ensure!(from > 0.0 && to >= from, "growth.to_messages_per_second: must not be below the first rate");
        Ok(())
    }

    /// A stage that connects all sessions, then one per rate.
    pub(super) fn stages(&self, connects_per_second: f64) -> Vec<Stage> {
        let seconds = (self.sessions as f64 / connects_per_second).ceil().max(1.0) as u32;
        let connect = Stage {
            seconds,
            sessions: self.sessions,
            messages_per_second: 0.0,
            at_once: false,
            measured: false,
        };
        let rates = std::iter::successors(Some(self.from_messages_per_second), |rate| {
            Some(rate * self.factor).filter(|next| *next <= self.to_messages_per_second)
        });
        let grown = rates.map(|rate| Stage {
            seconds: self.stage_seconds,
            sessions: self.sessions,
            messages_per_second: rate.round(),
            at_once: true,
            measured: true,
        });
        std::iter::once(connect).chain(grown).collect()
    }
}

/// A stage with the time at which it starts, and what it starts from.
#[derive(Clone, Debug)]
pub struct StageOfRun {
    /// Its position in the list.
    pub index: usize,
    /// When it starts, after the start of the run.
    pub begins: Duration,
    stage: Stage,
    from: Moment,
}

/// How many sessions and messages there are to be at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Connected sessions.
    pub sessions: usize,
    /// Messages per second of all sessions together.
    pub messages_per_second: f64,
}

impl StageOfRun {
    /// The stages with their times.
    pub fn list(stages: Vec<Stage>) -> Vec<StageOfRun> {
        let (mut begins, mut from) = (Duration::ZERO, Moment::default());
        let placed = stages.into_iter().enumerate().map(|(index, stage)| {
            let of_run = StageOfRun { index, begins, from, stage };
            begins += of_run.stage.duration();
            from = of_run.target();
            of_run
        });
        placed.collect()
    }

    /// The stage as the scenario has it.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// When it ends, after the start of the run.
    pub fn ends(&self) -> Duration {
        self.begins + self.stage.duration()
    }

    /// What there is to be at a time after the start of the run.
    pub fn at(&self, time: Duration) -> Moment {
        let passed = time.saturating_sub(self.begins).as_secs_f64();
        let share = (passed / self.stage.duration().as_secs_f64()).min(1.0);
        let between = |from: f64, to: f64| from + (to - from) * share;
        let target = self.target();
        let sessions = between(self.from.sessions as f64, target.sessions as f64).round() as usize;
        let rate = between(self.from.messages_per_second, target.messages_per_second);
        Moment {
            sessions,
            messages_per_second: if self.stage.at_once { target.messages_per_second } else { rate },
        }
    }

    fn target(&self) -> Moment {
        Moment { sessions: self.stage.sessions, messages_per_second: self.stage.messages_per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_grows_evenly_and_then_holds() {
        let stage = |seconds, sessions, rate| Stage {
            seconds,
            sessions,
            messages_per_second: rate,
            at_once: false,
            measured: true,
        };
        let stages = StageOfRun::list(vec![stage(10, 100, 50.0), stage(20, 100, 50.0), stage(10, 0, 0.0)]);
        let at = |index: usize, seconds| stages[index].at(Duration::from_secs(seconds));
        assert_eq!(at(0, 5), Moment { sessions: 50, messages_per_second: 25.0 });
        assert_eq!(at(1, 17), Moment { sessions: 100, messages_per_second: 50.0 });
        assert_eq!(at(2, 35), Moment { sessions: 50, messages_per_second: 25.0 });
        assert_eq!(stages[2].ends(), Duration::from_secs(40));
    }

    #[test]
    fn growth_multiplies_the_rate_and_stays_below_its_limit() {
        let growth = Growth {
            sessions: 1000,
            from_messages_per_second: 100.0,
            factor: 2.0,
            stage_seconds: 20,
            to_messages_per_second: 500.0,
        };
        let rates: Vec<f64> = growth.stages(500.0).iter().map(|stage| stage.messages_per_second).collect();
        assert_eq!(rates, [0.0, 100.0, 200.0, 400.0]);
    }
}

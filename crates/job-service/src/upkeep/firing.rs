//! Schedules: adding their jobs when their moments come.

use starling_jobs::{DueSchedules, Error, Firing, Missed};

use super::{STEPS_MAX, Upkeep};
use crate::metrics::METRICS;

/// The most schedules that fire together.
const FIRE_MAX: u16 = 100;
/// The moments from which a call takes no further schedule: each adds a job, and a call must not take long. One schedule has at most some 130.
const MOMENTS_MAX: usize = 500;

/// What one call fires.
#[derive(Default)]
struct Batch {
    firings: Vec<Firing>,
    /// The policies of the schedules that nobody has fired in time.
    missed: Vec<Missed>,
    /// The number of jobs to be added.
    moments: usize,
    /// Whether more schedules may be due.
    has_more: bool,
}

impl Batch {
    /// Chooses the first of the schedules that are due.
    fn of(due: DueSchedules) -> Self {
        let mut batch = Self { has_more: due.schedules.len() >= usize::from(FIRE_MAX), ..Self::default() };
        for schedule in due.schedules {
            if batch.moments >= MOMENTS_MAX {
                batch.has_more = true;
                break;
            }
            if schedule.is_missed(due.now_ms) {
                batch.missed.push(schedule.times.missed);
            }
            let firing = schedule.firing(due.now_ms);
            batch.moments += firing.moments_ms.len();
            batch.firings.push(firing);
        }
        batch
    }
}

impl Upkeep {
    /// Adds the jobs of schedules whose moments have come. Every node does it, and each moment counts once. Returns whether there are more.
    pub(super) async fn fire_schedules(&self) -> Result<bool, Error> {
        for _ in 0..STEPS_MAX {
            let batch = Batch::of(self.store.due_schedules(FIRE_MAX).await?);
            if batch.firings.is_empty() {
                return Ok(false);
            }
            let added = self.store.fire(&batch.firings).await?.len();
            METRICS.enqueued.increment(added as u64);
            METRICS.fired.increment(added as u64);
            batch.missed.into_iter().for_each(|policy| METRICS.missed[policy as usize].increment(1));
            if added > 0 {
                self.notices.note_ready();
            }
            // If none of the jobs was added, another node is at it.
            if !batch.has_more || added == 0 && batch.moments > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use starling_jobs::{DueSchedule, Revision, ScheduleTimes};

    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn due(schedules: usize, missed: Missed, due_ms: i64, now_ms: i64) -> DueSchedules {
        let times = ScheduleTimes { cron: "* * * * * *".into(), zone: "UTC".into(), missed };
        let schedule = |number: usize| DueSchedule {
            tenant: "t".into(),
            name: format!("s{number}"),
            revision: Revision::new(),
            times: times.clone(),
            due_ms,
        };
        DueSchedules { schedules: (0..schedules).map(schedule).collect(), now_ms }
    }

    #[test]
    fn a_long_outage_is_made_up_for_in_steps() {
        let now_ms = 1_800_000_000_000;
        let batch = Batch::of(due(100, Missed::All, now_ms - 60 * MINUTE_MS, now_ms));
        assert!(batch.has_more);
        assert!((MOMENTS_MAX..MOMENTS_MAX + 130).contains(&batch.moments), "{} jobs", batch.moments);
        assert_eq!(batch.firings.iter().map(|firing| firing.moments_ms.len()).sum::<usize>(), batch.moments);
        assert_eq!(
            batch.missed.len(),
            batch.firings.len(),
            "those that wait for the next step are not counted"
        );
    }

    #[test]
    fn what_is_due_and_small_fires_together() {
        let now_ms = 1_800_000_000_000;
        let batch = Batch::of(due(99, Missed::Skip, now_ms, now_ms));
        assert_eq!((batch.firings.len(), batch.moments, batch.has_more), (99, 99, false));
        assert!(Batch::of(due(100, Missed::Skip, now_ms, now_ms)).has_more, "there may be more");
        assert!(batch.missed.is_empty());
    }
}

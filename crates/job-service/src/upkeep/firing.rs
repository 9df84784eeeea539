//! Schedules: adding their jobs when their moments come.

use starling_jobs::{Error, Firing, Missed};

use super::Upkeep;
use crate::metrics::METRICS;

/// The most schedules that fire together.
const FIRE_MAX: u16 = 100;

impl Upkeep {
    /// Adds the jobs of schedules whose moments have come. Every node does it, and each moment counts once.
    pub(super) async fn fire_schedules(&self) -> Result<(), Error> {
        loop {
            let due = self.store.due_schedules(FIRE_MAX).await?;
            let count = due.schedules.len();
            let missed = due.schedules.iter().filter(|schedule| schedule.is_missed(due.now_ms));
            let missed: Vec<Missed> = missed.map(|schedule| schedule.times.missed).collect();
            let firings: Vec<Firing> =
                due.schedules.into_iter().map(|schedule| schedule.firing(due.now_ms)).collect();
            if !firings.is_empty() {
                let added = self.store.fire(&firings).await?;
                METRICS.enqueued.increment(added.len() as u64);
                METRICS.fired.increment(added.len() as u64);
                missed.into_iter().for_each(|policy| METRICS.missed[policy as usize].increment(1));
                if !added.is_empty() {
                    self.notices.note_ready();
                }
            }
            if count < usize::from(FIRE_MAX) {
                return Ok(());
            }
        }
    }
}

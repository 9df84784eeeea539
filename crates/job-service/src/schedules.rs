//! Schedules: keeping them, and adding their jobs when their moments come.

use starling_jobs::{Error, Firing, Missed, PutSchedule, Revision, Schedule};
use starling_model::TenantName;

use crate::JobService;
use crate::metrics::METRICS;

/// The most schedules of a tenant.
pub const SCHEDULES_MAX: u32 = 1_000;
/// The most schedules that fire together.
const FIRE_MAX: u16 = 100;

impl JobService {
    /// Keeps a schedule, in the place of the version that the caller has seen.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_schedule(
        &self,
        schedule: &Schedule,
        seen: Option<Revision>,
    ) -> Result<PutSchedule, Error> {
        self.store.put_schedule(schedule, seen, SCHEDULES_MAX).await
    }

    /// Returns a schedule of a tenant.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn schedule(&self, tenant: &TenantName, name: &str) -> Result<Option<Schedule>, Error> {
        self.store.schedule(tenant, name).await
    }

    /// Returns the schedules of a tenant whose names come after this one, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn schedules(
        &self,
        tenant: &TenantName,
        after: &str,
        limit: u16,
    ) -> Result<Vec<Schedule>, Error> {
        self.store.schedules(tenant, after, limit).await
    }

    /// Removes this version of a schedule. Returns whether it was there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_schedule(&self, schedule: &Schedule) -> Result<bool, Error> {
        self.store.delete_schedule(&schedule.tenant, &schedule.name, schedule.revision).await
    }

    /// Adds the jobs of schedules whose moments have come. Every node does it, and each moment counts once.
    pub(crate) async fn fire_schedules(&self) -> Result<(), Error> {
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
                    self.note_ready();
                }
            }
            if count < usize::from(FIRE_MAX) {
                return Ok(());
            }
        }
    }
}

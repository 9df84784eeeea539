//! Schedules: keeping, listing and removing them.

use starling_jobs::{Error, PutSchedule, Revision, Schedule};
use starling_model::TenantName;

use super::JobService;

/// The most schedules of a tenant.
pub const SCHEDULES_MAX: u32 = 1_000;

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
}
